"""Studio tests: an ASGI client, a fake engine, and a browser on a real server."""

import asyncio
import json
import os
import select
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from pvt.studio.jobs import StudioJob
from pvt.studio.server import LOOPBACK_NAMES, Studio
from pvt.studio.takes import Take, TakeStore
from tests.browser import chromium
from tests.pvt.studio.pages import LOADED

ROOT = Path(__file__).parents[3]
HOST = "127.0.0.1:8765"
START_S = 120  # of the command until it prints its address, on a busy machine
CURVES = {"version": 1, "velocity": [[0, 0.2], [1, 0.9]]}


class FakeEngine:
    """Generates silence in ten steps; counts how many jobs run at once."""

    def __init__(self, step=lambda: None) -> None:
        self.takes = TakeStore()
        self.step = step
        self.running = self.most = self.steps = 0
        layout = SimpleNamespace(names=("velocity",))
        self.entries = {
            "fake": SimpleNamespace(describe=dict, model=SimpleNamespace(data=SimpleNamespace(layout=layout)))
        }

    def entry(self, name):
        return self.entries["fake"]

    def presets(self):
        return {}

    def example(self):
        return SimpleNamespace(curves=CURVES)

    def check(self, request):
        request.parsed_curves()

    def generate(self, request, job: StudioJob) -> None:
        if isinstance(request, SimpleNamespace):  # the example
            return
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            for number in range(10):
                job.check()
                self.step()
                self.steps += 1
                job.report("progress", share=number / 10, seconds_left=0.0, steps=10)
            take = Take(np.zeros(24_000, np.float32), 24_000, {}, {}, np.zeros((2, 3), np.uint8))
            self.takes.add(take)
            job.report("takes", takes=[{"id": take.id, "analysis": {}}])
        finally:
            self.running -= 1


class Client:
    """Calls an ASGI application with a running lifespan."""

    def __init__(self, studio: Studio, token: str = "", names: set[str] = LOOPBACK_NAMES) -> None:
        self.studio, self.app = studio, studio.app(set(names), token)

    async def __aenter__(self) -> "Client":
        self._lifespan = self.studio.lifespan(None)
        await self._lifespan.__aenter__()
        return self

    async def __aexit__(self, *error: Any) -> None:
        await self._lifespan.__aexit__(*error)

    async def call(self, method: str, path: str, body: bytes = b"", headers: dict[str, str] | None = None, leave=None):
        """Status, headers and body of a response; the client disconnects once `leave` is set."""
        path, _, query = path.partition("?")
        pairs = {"host": HOST, **(headers or {})}
        scope = {
            "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": method, "scheme": "http",
            "path": path, "raw_path": path.encode(), "query_string": latin(query), "root_path": "",
            "headers": [(latin(name.lower()), latin(value)) for name, value in pairs.items()],
            "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 8765),
        }  # fmt: skip
        sent = False
        found: dict[str, Any] = {"body": b""}

        async def receive():
            nonlocal sent
            if not sent:
                sent = True
                return {"type": "http.request", "body": body, "more_body": False}
            await (leave.wait() if leave else asyncio.Event().wait())
            return {"type": "http.disconnect"}

        async def send(message):
            if message["type"] == "http.response.start":
                found.update(status=message["status"], headers=dict(message["headers"]))
            else:
                found["body"] += message.get("body", b"")

        await self.app(scope, receive, send)
        return SimpleNamespace(**found)

    async def json(self, method: str, path: str, value: Any = None):
        response = await self.call(method, path, b"" if value is None else json.dumps(value).encode())
        return response.status, json.loads(response.body)


def latin(text: str) -> bytes:
    return text.encode("latin-1", "replace")


@contextmanager
def running_studio(*options: str):
    """Process and address of a real server, stopped at the end."""
    command = [sys.executable, "-m", "pvt", "studio", "--port", "0", "--no-browser", *options]
    process = subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)}
    )
    try:
        assert process.stdout
        ready, _, _ = select.select([process.stdout], [], [], START_S)
        line = process.stdout.readline() if ready else ""
        assert line.startswith("Studio: http://127.0.0.1:"), f"no address within {START_S} s: {line!r}"
        yield process, line.split()[1]
        process.terminate()
        assert process.wait(20) in (0, -15)
    finally:
        process.kill()
        process.wait(20)


@pytest.fixture(scope="module")
def address():
    """Address of a real server with the shipped models, for a browser."""
    chromium()
    with running_studio() as (_, found):
        yield found


@pytest.fixture(scope="module")
def browser(address):
    """A headless Chromium."""
    sync_api = pytest.importorskip("playwright.sync_api")
    with sync_api.sync_playwright() as playwright:
        running = playwright.chromium.launch(
            executable_path=chromium(),
            args=[
                "--no-sandbox",
                "--autoplay-policy=user-gesture-required",
                "--use-fake-device-for-media-stream",
                "--use-fake-ui-for-media-stream",
            ],
        )
        yield running
        running.close()


@pytest.fixture
def page(browser, address):
    """A page that has shown the example; console errors and requests to other hosts fail the test."""
    context = browser.new_context(viewport={"width": 1400, "height": 1000}, accept_downloads=True)
    page = context.new_page()
    faults: list[str] = []
    page.on("console", lambda message: faults.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on(
        "request",
        lambda request: None if request.url.startswith((address, "blob:", "data:")) else faults.append(request.url),
    )
    page.goto(address)
    page.wait_for_selector(LOADED, timeout=60_000)
    page.wait_for_selector("body[data-takes=full][data-job=done]", timeout=60_000)
    yield page
    assert not faults
    context.close()

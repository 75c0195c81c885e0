"""Figures of docs/results/studio.md: times and frames in a browser, memory over many jobs. Printed with `-s`."""

import json
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.request import Request, urlopen

import numpy as np
import pytest

from tests.browser import chromium
from tests.pvt.studio.conftest import CURVES, running_studio
from tests.pvt.studio.test_browser import LOADED, drag, until

pytestmark = pytest.mark.slow
CLIENTS = 50
MEMORY_MARGIN = 0.1  # of the memory after the first jobs
WATCH_FRAMES = """() => { window.frames_ms = []; let last = performance.now();
    const step = (now) => { window.frames_ms.push(now - last); last = now; requestAnimationFrame(step); };
    requestAnimationFrame(step); }"""
PLAY = """async () => { const start = performance.now(), at = studio.position; document.getElementById("play").click();
    while (!(studio.player.playing && studio.position > at)) await new Promise(requestAnimationFrame);
    return performance.now() - start; }"""


@pytest.fixture
def server():
    """Process, address and start time of a studio with the model that has drafts."""
    started = time.monotonic()
    with running_studio("--run", "edm") as (process, address):
        yield process, address, started


def resident_mb(pid: int) -> float:
    fields = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return int(fields["VmRSS"].split()[0]) / 1024


def test_times_and_frames_in_the_browser(server):
    sync_api = pytest.importorskip("playwright.sync_api")
    _, address, started = server
    print(f"\ncommand to address: {time.monotonic() - started:.1f} s")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1400, "height": 1000})
        page.goto(address)
        print(f"command to page: {time.monotonic() - started:.1f} s")
        page.wait_for_selector(LOADED, timeout=120_000)
        print(f"command to lanes: {time.monotonic() - started:.1f} s")
        page.wait_for_selector("body[data-takes=full][data-job=done]", timeout=120_000)
        print(f"command to example: {time.monotonic() - started:.1f} s")
        page.mouse.click(5, 5)
        print(f"play: {page.evaluate(PLAY):.0f} ms")
        page.keyboard.press("Space")
        for _ in range(3):
            changed = time.monotonic()
            drag(page, "velocity", (0.1, 0.9), (0.5, 0.2))
            page.evaluate("document.body.dataset.takes = ''")
            page.click("#generate")
            until(page, "document.body.dataset.takes !== ''", 120)
            print(f"change to draft: {time.monotonic() - changed:.1f} s", end=", ")
            until(page, "document.body.dataset.takes === 'full' && document.body.dataset.job === 'done'", 120)
            print(f"to full quality: {time.monotonic() - changed:.1f} s")
        points = [[i / 50, (i % 50) / 50] for i in range(1500)]
        page.evaluate("(line) => studio.score.edit((s) => { s.seconds = 30; s.lines.velocity = line; })", points)
        page.evaluate("studio.view.fit()")
        page.evaluate(WATCH_FRAMES)
        drag(page, "velocity", (0.05, 0.5), (0.95, 0.4), steps=240)
        frames = np.array(page.evaluate("window.frames_ms")[2:])
        paint = page.evaluate(
            """() => { const start = performance.now(); for (let i = 0; i < 50; i++) studio.lanes[0].paint();
                return (performance.now() - start) / 50; }"""
        )
        median, late = np.quantile(frames, [0.5, 0.95])
        print(f"drawing 30 s: {len(frames)} frames, median {median:.1f} ms, 95% {late:.1f} ms")
        print(f"one lane of 1500 points: {paint:.1f} ms of script")
        assert len(page.evaluate("studio.score.lines.velocity")) < 1500
        browser.close()


def test_fifty_clients_at_once_are_served_and_memory_stays_flat(server):
    process, address, _ = server

    def call(seed: int) -> int:
        body = json.dumps(CURVES).encode()
        request = Request(f"{address}generate?seconds=1&steps=4&seed={seed}", body, {"Host": "127.0.0.1"})
        with urlopen(request, timeout=600) as response:
            return len(response.read())

    sizes = [call(seed) for seed in range(10)]
    before = resident_mb(process.pid)
    started = time.monotonic()
    with ThreadPoolExecutor(CLIENTS) as clients:
        sizes += clients.map(call, range(CLIENTS))
    after = resident_mb(process.pid)
    took = time.monotonic() - started
    print(f"\n{CLIENTS} clients at once: {took:.0f} s, {before:.0f} MB before, {after:.0f} MB after")
    assert sizes == [44 + 2 * 24_000] * (10 + CLIENTS)
    assert after < before * (1 + MEMORY_MARGIN)

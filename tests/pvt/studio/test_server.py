"""HTTP service of the studio with a fake engine: security, bounds, queue, cancellation."""

import asyncio
import json
import random
import signal
import threading
import urllib.request

import numpy as np
import pytest

from data_specs.errors import UserError
from pvt.studio import jobs
from pvt.studio.guard import host_name
from pvt.studio.imports import recording_curves
from pvt.studio.requests import MAX_BODY
from pvt.studio.server import Studio
from pvt.studio.takes import Take, TakeStore
from tests.pvt.studio.conftest import CURVES, HOST, Client, FakeEngine, running_studio

REQUEST = {"curves": CURVES, "seconds": 1}


def run(coroutine, engine=None, timeout=60, **options):
    """Run `coroutine(client, engine)` on a studio with a fake engine, for `timeout` seconds at most."""
    engine = engine or FakeEngine()

    async def main():
        async with Client(Studio(lambda: engine), **options) as client:
            await client.studio.engine()
            return await coroutine(client, engine)

    return asyncio.run(asyncio.wait_for(main(), timeout))


async def events(client, job):
    response = await client.call("GET", f"/api/jobs/{job}/events")
    return [json.loads(line.removeprefix("data: ")) for line in response.body.decode().split("\n\n") if line]


def test_a_job_reports_progress_and_takes():
    async def use(client, engine):
        status, value = await client.json("POST", "/api/jobs", REQUEST)
        found = await events(client, value["id"])
        take = next(event for event in found if event["kind"] == "takes")["takes"][0]["id"]
        wav = await client.call("GET", f"/api/takes/{take}/wav?rate=48000&bits=24")
        mel = await client.call("GET", f"/api/takes/{take}/spectrogram")
        return status, found, wav, mel

    status, found, wav, mel = run(use)
    assert status == 202
    assert found[-1]["kind"] == "done"
    assert wav.body[:4] == b"RIFF"
    assert (mel.headers[b"x-bands"], len(mel.body)) == (b"2", 6)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"host": "evil.example:8765"}, 421),
        ({"host": ""}, 421),
        ({"host": "127.0.0.1.evil.example"}, 421),
        ({"host": "localhost:9000"}, 200),
        ({"origin": "http://evil.example"}, 403),
        ({"origin": "null"}, 403),
        ({"origin": f"http://{HOST}"}, 200),
        ({}, 200),
    ],
)
def test_host_must_be_the_studio_and_origin_must_equal_host(headers, status):
    response = run(lambda client, engine: client.call("GET", "/", headers=headers))
    assert response.status == status
    assert b"frame-ancestors 'none'" in response.headers[b"content-security-policy"]


def test_host_names_are_read_without_port():
    assert [host_name(host) for host in ("A:1", "[::1]:80", "a", "a:b")] == ["a", "[::1]", "a", "a:b"]


def test_a_token_is_required_once_it_is_set():
    async def use(client, engine):
        without = await client.call("GET", "/api/models")
        wrong = await client.call("GET", "/?token=guess")
        right = await client.call("GET", "/?token=secret")
        cookie = right.headers[b"set-cookie"].decode().partition(";")[0]
        later = await client.call("GET", "/api/models", headers={"cookie": cookie})
        return [response.status for response in (without, wrong, right, later)]

    assert run(use, token="secret") == [403, 403, 200, 200]


def test_large_bodies_are_refused():
    response = run(lambda client, engine: client.call("POST", "/api/jobs", b" " * (MAX_BODY + 1)))
    assert response.status == 413


@pytest.mark.parametrize(
    "change",
    [
        {"seconds": 31},
        {"seconds": 0},
        {"variants": 5},
        {"seed": -1},
        {"steps": 0},
        {"guidance": 1e9},
        {"curves": []},
        {"curves": {"version": 2}},
        {"curves": {"version": 1, "velocity": [[0, 7]]}},
        {"path": "/etc/passwd"},
        {"span": {"take": "x", "start": 1, "stop": 1}},
    ],
)
def test_invalid_requests_are_refused_before_they_are_queued(change):
    status, value = run(lambda client, engine: client.json("POST", "/api/jobs", REQUEST | change))
    assert status == 422
    assert value["error"]


def test_fifty_clients_are_served_one_at_a_time():
    async def use(client, engine):
        posted = await asyncio.gather(
            *(client.call("POST", "/generate", json.dumps(CURVES).encode()) for _ in range(50))
        )
        return [response.status for response in posted], engine.most, len(posted[0].body)

    statuses, most, size = run(use)
    assert statuses == [200] * 50
    assert most == 1
    assert size == 44 + 2 * 24_000


def test_a_full_queue_is_refused(monkeypatch):
    monkeypatch.setattr(jobs, "MAX_QUEUE", 2)
    gate = threading.Event()

    async def use(client, engine):
        statuses = [(await client.json("POST", "/api/jobs", REQUEST))[0] for _ in range(5)]
        gate.set()
        return statuses

    statuses = run(use, FakeEngine(lambda: gate.wait(30)))
    assert statuses.count(429) >= 2


def test_cancel_acts_between_steps():
    reached, gate = threading.Event(), threading.Event()

    def step():
        reached.set()
        gate.wait(30)

    async def use(client, engine):
        _, value = await client.json("POST", "/api/jobs", REQUEST)
        await asyncio.to_thread(reached.wait, 30)
        await client.json("DELETE", f"/api/jobs/{value['id']}")
        gate.set()
        return (await events(client, value["id"]))[-1]["kind"], engine.steps

    assert run(use, FakeEngine(step)) == ("cancelled", 1)


@pytest.mark.parametrize("path", ["/api/jobs", "/generate"])
def test_jobs_of_clients_that_disappear_are_cancelled(monkeypatch, path):
    monkeypatch.setattr(jobs, "GRACE_SECONDS", 0.5)
    gate = threading.Event()

    async def use(client, engine):
        leave = asyncio.Event()
        body = REQUEST if path == "/api/jobs" else CURVES
        call = asyncio.create_task(client.call("POST", path, json.dumps(body).encode(), leave=leave))
        while not engine.running:  # of jobs of clients, without the example
            await asyncio.sleep(0.01)
        job = client.studio.jobs.running
        leave.set()
        await call
        while not job.cancelled:
            await asyncio.sleep(0.02)
        gate.set()
        return job.cancelled

    assert run(use, FakeEngine(lambda: gate.wait(30)))


def test_the_example_is_named_only_while_its_takes_are_in_memory():
    class Examples(FakeEngine):
        def generate(self, request, job):
            take = Take(np.zeros(240, np.float32), 24_000, {}, {}, np.zeros((2, 3), np.uint8))
            self.takes.add(take)
            job.report("takes", takes=[{"id": take.id}])

    async def use(client, engine):
        job = (await client.json("GET", "/api/models"))[1]["example"]["job"]
        await events(client, job)
        kept = (await client.json("GET", "/api/models"))[1]["example"]
        engine.takes = TakeStore()
        return job, kept, (await client.json("GET", "/api/models"))[1]["example"]

    job, kept, dropped = run(use, Examples())
    assert job is not None
    assert kept == {"job": job, "curves": CURVES}
    assert dropped == {"job": None, "curves": CURVES}


@pytest.mark.parametrize("seconds", [-1, 0, 31])
def test_the_length_of_an_imported_recording_is_limited(seconds):
    with pytest.raises(UserError, match=f"seconds must be in 1..30, got {seconds}"):
        recording_curves(b"", seconds, ("pitch",), 0.8)


def test_memory_of_takes_is_bounded():
    store = TakeStore(max_bytes=1_000_000)
    for _ in range(50):
        store.add(Take(np.zeros(24_000, np.float32), 24_000, {}, {}, np.zeros((2, 3), np.uint8)))
    assert sum(take.bytes for take in store._takes.values()) <= 1_000_000


PATHS = (
    *("/", "/assets/main.js", "/api/models", "/api/jobs", "/api/takes/x/wav", "/generate", "/api/import/curves"),
    *("/api/import/midi", "/api/jobs/x/events", "/assets/../cli.py", "/assets/%2e%2e%2fcli.py", "/api/takes/../wav"),
)
QUERIES = ("", "rate=0", "bits=99", "seconds=nan", "seconds=1e999", "seed=" + "9" * 400, "token=é", "x=1")


def fuzzed(rng: random.Random) -> tuple[str, str, bytes, dict[str, str]]:
    path = rng.choice(PATHS)
    if rng.random() < 0.5:
        place = rng.randrange(len(path) + 1)
        path = path[:place] + rng.choice(["/", "%00", "..", "é", "\\", "a" * 5000, "//", "?"]) + path[place:]
    query = f"?{rng.choice(QUERIES)}"
    body = json.dumps(REQUEST if rng.random() < 0.5 else CURVES).encode()
    for _ in range(rng.randrange(1, 8)):
        place = rng.randrange(len(body))
        body = body[:place] + rng.randbytes(rng.randrange(4)) + body[place + rng.randrange(6) :] or b"x"
    headers = rng.choice([{}, {"origin": "x"}, {"host": "\x00"}, {"cookie": "pvt_token=é"}, {"content-length": "-1"}])
    return rng.choice(["GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "TRACE"]), path + query, body, headers


@pytest.mark.parametrize("count", [1000, pytest.param(10_000, marks=pytest.mark.slow)])
def test_fuzzed_requests_give_client_errors_only(count):
    async def use(client, engine):
        rng = random.Random(7)
        statuses = []
        for _ in range(count):
            method, path, body, headers = fuzzed(rng)
            response = await client.call(method, path, body, headers)
            statuses.append((response.status, method, path, body))
        return statuses

    for status, method, path, body in run(use, timeout=900):
        assert status < 500, (method, path, body)
        served = method in ("GET", "HEAD") and path.partition("?")[0] in ("/", "/assets/main.js", "/api/models")
        assert status >= 400 or served or method == "POST", (status, method, path)


def test_ctrl_c_ends_the_studio_without_an_error():
    with running_studio() as (process, address):
        with urllib.request.urlopen(address, timeout=60) as page:
            assert page.status == 200
        process.send_signal(signal.SIGINT)
        assert process.wait(120) == 0  # it may be loading the model

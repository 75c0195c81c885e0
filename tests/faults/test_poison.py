"""A clip and a file that kill every worker that touches them: isolated, named, counted; the rest is built."""

import hashlib
import json

import dask
import pytest

from pipeline.cluster import workers
from pipeline.cluster.workers import LocalWorkers
from pipeline.plan.plan import Plan
from tests.pipeline.made_songs import contents, song_bytes

# Loaded by every worker, and by the child of an isolated renderer.
PRELOAD = """
import hashlib, os, signal
from pipeline.build import indexing
from pipeline.render import isolated_renderer, renderer
from pipeline.render.isolated_renderer import render_packed

POISON = {poison!r}

def die_at(function, content):
    def poisoned(first, second, *rest):
        if hashlib.sha256(content(first, second)).hexdigest() == POISON:
            os.kill(os.getpid(), signal.SIGKILL)
        return function(first, second, *rest)
    return poisoned

renderer.Renderer.render = die_at(renderer.Renderer.render, lambda self, notes: notes.tobytes())
indexing.SandboxedReader.__call__ = die_at(indexing.SandboxedReader.__call__, lambda self, content: content)
isolated_renderer.TARGET = "poison:render_packed"
"""


@pytest.fixture
def poisoned_by(tmp_path, monkeypatch):
    """Call it with the content at which workers shall die; one death is enough to draw conclusions."""
    monkeypatch.setitem(workers.SETTINGS, "distributed.scheduler.allowed-failures", 0)

    def prepare(content: bytes) -> None:
        (tmp_path / "poison.py").write_text(PRELOAD.format(poison=hashlib.sha256(content).hexdigest()))

    with dask.config.set({"distributed.worker.preload": [str(tmp_path / "poison.py")]}):
        yield prepare


@pytest.mark.slow  # a worker that loads torch has to start three times
def test_a_clip_that_kills_its_worker_is_left_out_by_name(order, reference, poisoned_by, tmp_path):
    plan = Plan.open(next(path.parent for path in (reference / "index").glob("plan-*/plan.json")))
    clip = plan.clips("train", 5, 6)[0]
    poisoned_by(clip.notes.tobytes())
    out = tmp_path / "out"
    assert order.build(out, LocalWorkers(1), accept_fewer=True) == 0  # 1 of 18 clips is over 1 %
    rejects = json.loads((out / "PVT-audio" / "rejects.json").read_bytes())
    assert rejects["audio: crash"] == {"count": 1, "examples": [f"clip {clip.id}"]}
    changed = {name for name, digest in contents(out).items() if contents(reference)[name] != digest}
    assert {name for name in changed if name.endswith("tfrecord")} == {
        "PVT-audio/train/PVT-audio-train-00001-of-00004.tfrecord"
    }


def test_a_file_that_kills_its_worker_is_left_out_by_name(order, poisoned_by, tmp_path, capsys):
    midi = tmp_path / "midi"
    midi.mkdir()
    for seed in range(4):
        (midi / f"{seed}.mid").write_bytes(song_bytes(seed))
    poisoned_by(song_bytes(2))
    spec = order.request.spec
    spec = spec.model_copy(update={"source": spec.source.model_copy(update={"midi": str(midi)})})
    assert order.build(tmp_path / "out", LocalWorkers(1), spec=spec, dry_run=True, accept_fewer=True) == 0
    (memory,) = (tmp_path / "out" / "index").glob("source-*.json")
    assert json.loads(memory.read_bytes())["rejects"] == {
        "crash": {"count": 1, "examples": ["2.mid: every worker that read it died"]}
    }
    (about,) = (tmp_path / "out" / "index").glob("plan-*/plan.json")
    assert json.loads(about.read_bytes())["sources"] == 3

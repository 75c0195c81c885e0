"""MIDI songs and plans made on the spot, small enough to build whole datasets from."""

import io
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import mido
import numpy as np
import pytest

from data_specs.spec import Clips, load_spec
from pipeline.index import index_part
from pipeline.midi import read_song
from pipeline.planning import make_plan

STEPS = np.array([0, 2, 4, 5, 7, 9, 11, 12])


def song_bytes(seed: int, notes: int = 120) -> bytes:
    """A MIDI file with one melody: a seeded walk over a scale in quavers and crotchets."""
    rng = np.random.default_rng(seed)
    file = mido.MidiFile(ticks_per_beat=480)
    track = mido.MidiTrack()
    file.tracks.append(track)
    track.append(mido.MetaMessage("set_tempo", tempo=int(rng.integers(350_000, 600_000))))
    degree = 3
    for _ in range(notes):
        degree = int(np.clip(degree + rng.integers(-3, 4), 0, 13))
        pitch = 52 + 12 * (degree // 7) + int(STEPS[degree % 7])
        length = int(rng.choice([240, 240, 480]))
        track.append(mido.Message("note_on", note=pitch, velocity=int(rng.integers(60, 127)), time=0))
        track.append(mido.Message("note_off", note=pitch, velocity=0, time=length))
    content = io.BytesIO()
    file.save(file=content)
    return content.getvalue()


@pytest.fixture(scope="session")
def midi_folder(tmp_path_factory):
    """A folder of 24 songs, one of them broken and one there twice."""
    folder = tmp_path_factory.mktemp("midi")
    for seed in range(24):
        path = folder / f"album-{seed % 3}" / f"song-{seed:02d}.mid"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(song_bytes(seed))
    (folder / "again.mid").write_bytes(song_bytes(5))
    (folder / "broken.mid").write_bytes(b"<html>not a song</html>")
    return folder


@pytest.fixture(scope="session")
def small_spec():
    """The sample spec with few clips and shards of 4."""
    spec = load_spec("sample").with_clips(Clips(train=10, valid=3))
    formats = {
        name: spec.format(name).model_copy(update={"shard_clips": 4, "chunk_clips": 2})
        for name in ("audio", "cqt", "encodec", "disc")
    }
    source = spec.source.model_copy(update={"key_shifts": (0,), "clips_per_song": 4})
    return spec.model_copy(update={"formats": spec.formats.model_copy(update=formats), "source": source})


@pytest.fixture(scope="session")
def small_plan(midi_folder, small_spec, tmp_path_factory):
    """The plan that `midi_folder` gives under `small_spec`."""
    index = tmp_path_factory.mktemp("index")
    files = [(str(path.relative_to(midi_folder)), path.read_bytes()) for path in sorted(midi_folder.rglob("*.mid"))]
    part = index_part(files, small_spec, index, lambda content: read_song(content, small_spec.limits))
    return make_plan(small_spec, [part.path], index)


class DaskCluster:
    """A scheduler and two workers, each a process of its own on loopback, started as a user starts them."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "scheduler.json"
        self.processes: list[subprocess.Popen] = []
        self._start("scheduler", "--port", "0", "--no-dashboard")
        deadline = time.monotonic() + 60
        while not self.file.exists() and time.monotonic() < deadline:
            time.sleep(0.1)
        self.address = json.loads(self.file.read_bytes())["address"]
        self.start_worker()
        self.start_worker()

    def start_worker(self) -> subprocess.Popen:
        """One more worker."""
        return self._start("worker", "--nthreads", "1", "--no-dashboard", "--no-nanny")

    def _start(self, kind: str, *options: str) -> subprocess.Popen:
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "OMP_NUM_THREADS": "1"}
        place = ["--host", "127.0.0.1", "--scheduler-file", str(self.file)]
        command = [sys.executable, "-m", "dask", kind, *place, *options]
        process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.processes.append(process)
        return process


@pytest.fixture(scope="session")
def dask_cluster(tmp_path_factory):
    """See DaskCluster."""
    cluster = DaskCluster(tmp_path_factory.mktemp("dask"))
    yield cluster
    for process in reversed(cluster.processes):
        process.kill()
        process.wait()

"""The example scripts run as their first line says."""

import subprocess
import sys
from pathlib import Path

import pytest
import soundfile

ROOT = Path(__file__).parents[2]


def run(name, *arguments):
    command = [sys.executable, str(ROOT / "examples" / name), *map(str, arguments)]
    found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=1200)
    assert found.returncode == 0, found.stderr[-2000:]
    return found.stdout


@pytest.fixture(scope="module")
def data(make_dataset, tmp_path_factory):
    parent = tmp_path_factory.mktemp("examples")
    make_dataset(parent, "encodec", {"train": 4, "valid": 2}, shard_clips=4)
    return parent


def test_shards_in_a_dataloader(data):
    assert "data         (2, 128," in run("shards_dataloader.py", data / "PVT-encodec", "--batch", 2)


@pytest.mark.slow
def test_dataset_of_own_midi(tmp_path):
    from pipeline.tunes import midi_files

    songs = tmp_path / "songs"
    songs.mkdir()
    for number, (_, content) in enumerate(list(midi_files())[:12]):
        (songs / f"{number}.mid").write_bytes(content)
    assert "data (128, 600)" in run("dataset_of_own_midi.py", songs, tmp_path / "out")


@pytest.mark.slow
def test_train_and_sample(data, tmp_path):
    run("train_and_sample.py", data, tmp_path / "run", tmp_path / "out", "--steps", 2)
    assert soundfile.info(tmp_path / "out" / "swell.wav").frames == 192_000

"""The wheel built from the source distribution works in an environment of its own, from any folder."""

import os
import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest
import soundfile

ROOT = Path(__file__).parents[1]


def call(*command, cwd):
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}  # not this checkout
    found = subprocess.run(list(map(str, command)), cwd=cwd, capture_output=True, text=True, env=environment)
    assert found.returncode == 0, found.stderr[-3000:]
    return found.stdout


@pytest.mark.slow
def test_a_wheel_in_a_fresh_environment_samples_from_any_folder(tmp_path):
    call(sys.executable, "-m", "build", "--outdir", tmp_path, ROOT, cwd=tmp_path)
    (sdist,), (wheel,) = tmp_path.glob("*.tar.gz"), tmp_path.glob("*.whl")
    with tarfile.open(sdist) as archive:
        assert any(name.endswith("training/snapshots/edm-phaseless.safetensors") for name in archive.getnames())
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    assert {"pvt/py.typed", "pvt/studio/assets/main.js", "pvt/studio/example.flac"} <= names
    venv.create(tmp_path / "venv", with_pip=True)
    python = tmp_path / "venv" / "bin" / "python"
    constraints = ROOT / "constraints.txt"
    call(python, "-m", "pip", "install", "--quiet", "-c", constraints, f"{wheel}[training]", cwd=tmp_path)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    options = ["--controls", "swell", "--clips", "1", "--sampler-steps", "4"]
    call(tmp_path / "venv" / "bin" / "pvt", "sample", *options, cwd=elsewhere)
    assert soundfile.info(elsewhere / "samples" / "swell" / "0-00.wav").frames == 192_000

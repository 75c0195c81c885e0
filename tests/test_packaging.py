"""The wheel built from the source distribution works in an environment of its own, from any folder."""

import json
import os
import re
import subprocess
import sys
import tarfile
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest
import soundfile

from training.runs import SHIPPED

ROOT = Path(__file__).parents[1]


def call(*command, cwd):
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}  # not this checkout
    found = subprocess.run(
        list(map(str, command)), cwd=cwd, capture_output=True, text=True, env=environment, timeout=1800
    )
    assert found.returncode == 0, found.stderr[-3000:]
    return found.stdout


@pytest.mark.slow
def test_a_wheel_in_a_fresh_environment_samples_from_any_folder(tmp_path):
    call(sys.executable, "-m", "build", "--outdir", tmp_path, ROOT, cwd=tmp_path)
    (sdist,), (wheel,) = tmp_path.glob("*.tar.gz"), tmp_path.glob("*.whl")
    with tarfile.open(sdist) as archive:
        packed = {Path(name).name for name in archive.getnames() if "training/snapshots/" in name}
    assert {path.name for path in SHIPPED.values()} <= packed
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


EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]


@pytest.mark.slow
@pytest.mark.parametrize("extra", EXTRAS)
def test_an_extra_resolves_alone_with_the_pins(extra, tmp_path):
    """Nothing is installed; wheels of other platforms are not looked at."""
    report = tmp_path / "report.json"
    options = ["--dry-run", "--ignore-installed", "--quiet", "--report", report, "-c", ROOT / "constraints.txt"]
    call(sys.executable, "-m", "pip", "install", *options, f"{ROOT}[{extra}]", cwd=tmp_path)
    found = {
        name(one["metadata"]["name"]): one["metadata"]["version"] for one in json.loads(report.read_text())["install"]
    }
    pins = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().split())
    pins = {name(package): version for package, version in pins.items()}
    wanted = {name(re.match(r"[\w.-]+", requirement)[0]) for requirement in EXTRAS[extra]}
    assert wanted <= set(found)
    unpinned = {package for package, version in found.items() if version.partition("+")[0] != pins.get(package)}
    assert unpinned - {"pvt-audio", "setuptools", "wheel"} == set()  # pip does not list its own tools


def name(package):
    """The name of a package as registries compare names."""
    return re.sub("[-_.]+", "-", package).lower()

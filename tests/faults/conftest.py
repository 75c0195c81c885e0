"""A small dataset to be built again and again under faults: audio, 18 clips in 5 shards."""

import io
import json
import os
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from bench.dask_site import ROOT, DaskSite
from pipeline.build.build import build
from pipeline.build.job import Request
from pipeline.cluster.workers import LocalWorkers, RemoteWorkers, Workers
from tests.pipeline.made_songs import contents, small_shards, write_songs

CLIPS = "14:4"


@dataclass(frozen=True)
class Order:
    """Spec of the build: the spec as an object and as a file for the command line."""

    request: Request
    spec_file: Path
    midi: Path

    def build(self, out: Path, workers: Workers, **changes: object) -> int:
        """In this process."""
        return build(replace(self.request, out=out, index=out / "index", workers=workers, **changes))

    def start(self, out: Path, address: str) -> "subprocess.Popen[str]":
        """The command line as a process of its own."""
        options = ["--midi", str(self.midi), "--format", "audio", "--clips", CLIPS, "--scheduler", address]
        return subprocess.Popen(
            [sys.executable, "-m", "pipeline", "dataset", "--spec", str(self.spec_file), "--out", str(out), *options],
            cwd=ROOT,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )


@pytest.fixture(scope="session")
def order(tmp_path_factory):
    """See Order."""
    folder = tmp_path_factory.mktemp("order")
    midi = folder / "midi"
    midi.mkdir()
    write_songs(midi)
    spec = small_shards(*map(int, CLIPS.split(":")))
    spec = spec.model_copy(update={"source": spec.source.model_copy(update={"midi": str(midi)})})
    spec_file = folder / "small.toml"
    spec_file.write_text(toml(spec.model_dump(mode="json", exclude_none=True)), encoding="utf-8")
    request = Request(
        spec=spec,
        formats=("audio",),
        out=folder,
        index=folder,
        workers=LocalWorkers(1),
        dry_run=False,
        force=False,
        accept_fewer=False,
        accept_device=False,
        subset=None,
    )
    return Order(request, spec_file, midi)


def toml(value: dict) -> str:
    """A spec as TOML: scalars and lists first, then tables."""
    text = io.StringIO()
    for key, part in value.items():
        text.write(f"{key} = {inline(part)}\n")
    return text.getvalue()


def inline(part: object) -> str:
    if isinstance(part, dict):
        return "{" + ", ".join(f"{key} = {inline(one)}" for key, one in part.items()) + "}"
    if isinstance(part, list):
        return "[" + ", ".join(map(inline, part)) + "]"
    return json.dumps(part)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """A scheduler and two workers that a test may kill."""
    with DaskSite(tmp_path_factory.mktemp("site")) as site:
        yield site


@pytest.fixture(scope="session")
def reference(order, tmp_path_factory):
    """The folder of a build that nothing disturbed."""
    out = tmp_path_factory.mktemp("reference")
    assert order.build(out, LocalWorkers(1)) == 0
    return out


@pytest.fixture
def same(reference):
    """Raises unless everything below a folder is, byte for byte, what it should be."""

    def check(out: Path) -> None:
        assert contents(out) == contents(reference)
        assert not list(out.rglob(".*.tmp"))

    return check


@pytest.fixture
def whole(reference):
    """Raises if anything in sight below a folder is half-written."""

    def check(out: Path) -> None:
        expected = contents(reference)
        found = contents(out)
        if "PVT-audio/dataset.json" in found:
            assert found == expected
        assert {
            name: digest for name, digest in found.items() if name.endswith(".tfrecord")
        }.items() <= expected.items()

    return check


@pytest.fixture
def remote(site):
    """Workers of the site."""
    return RemoteWorkers(site.address)

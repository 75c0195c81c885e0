"""Clips and datasets of the sample spec, built once in a scratch folder that all parts share."""

import os
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from data_specs.spec import Spec, load_spec
from pipeline.plan.plan import Plan, PlannedClip
from pipeline.render.renderer import Renderer
from pipeline.render.soundfont import soundfont_path

ROOT = Path(__file__).parents[1]
CLIPS = "256:32"  # of the datasets that readers and training are measured on
SMALL = "64:16"  # of cqt, 26 times the size


@dataclass(frozen=True)
class Context:
    """Options shared by all parts."""

    scratch: Path
    midi: Path | None = None  # folder of MIDI files; None for composed ones
    full: bool = False  # more repeats, and the rows that take long


@cache
def spec() -> Spec:
    """The sample spec: tunes, SoundFont and codec that come with the project and its packages."""
    return load_spec("sample")


def plan(scratch: Path) -> Plan:
    """The sample's plan."""
    if not list((scratch / "data" / "index").glob("plan-*/plan.json")):
        command(scratch, "--dry-run")
    (path,) = (scratch / "data" / "index").glob("plan-*/plan.json")
    return Plan.open(path.parent)


def planned(scratch: Path, count: int) -> list[PlannedClip]:
    """The first clips of the sample's train split."""
    return plan(scratch).clips("train", 0, count)


def renderer() -> Renderer:
    """Renderer of the sample's instruments."""
    return Renderer(soundfont_path(spec().rendering.soundfont), spec().rendering, spec().clip.sample_rate)


def audio(scratch: Path, count: int) -> np.ndarray:
    """Rendered clips, float32 [count, 1, N]."""
    with renderer() as plays:
        clips = [
            plays.render(clip.notes, spec().instruments[clip.instrument], spec().clip.samples)
            for clip in planned(scratch, count)
        ]
    return np.stack(clips)[:, None]


def dataset(scratch: Path, format_name: str) -> Path:
    """The folder of a small dataset of this format."""
    folder = scratch / "data" / f"PVT-{format_name}"
    if not (folder / "dataset.json").is_file():
        command(scratch, "--format", format_name, "--clips", SMALL if format_name == "cqt" else CLIPS)
    return folder


def command(scratch: Path, *options: str) -> None:
    """`python -m pipeline dataset` into the scratch folder."""
    run_python("pipeline", "dataset", "--out", str(scratch / "data"), *options, OMP_NUM_THREADS="1")


def run_python(package: str, *options: str, **environment: str) -> None:
    """Run a command of the project as a process of its own.

    Raises:
        RuntimeError: it failed; the message ends with what it said.
    """
    start = [sys.executable, "-m", package, *options]
    done = subprocess.run(start, cwd=ROOT, capture_output=True, text=True, env={**os.environ, **environment})
    if done.returncode:
        raise RuntimeError(f"python -m {package} {' '.join(options)} failed: {done.stderr.strip()[-300:]}")

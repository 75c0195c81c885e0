"""Clips and datasets of the sample spec, built once in a scratch folder that all parts of the benchmark share."""

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
CLIPS = "256:32"  # train:valid of the datasets
SMALL = "64:16"  # of cqt, whose clips are 26 times larger


@dataclass(frozen=True)
class Context:
    """Options shared by all parts."""

    scratch: Path
    midi: Path | None = None  # folder of MIDI files; None for composed ones
    full: bool = False  # whether to use more repeats and include slow rows


@cache
def spec() -> Spec:
    """Return the sample spec, whose tunes, SoundFont and codec are part of the project and its packages."""
    return load_spec("sample")


def plan(scratch: Path) -> Plan:
    """Return the plan of the sample spec, built in `scratch` if needed."""
    if not list((scratch / "data" / "index").glob("plan-*/plan.json")):
        command(scratch, "--dry-run")
    (path,) = (scratch / "data" / "index").glob("plan-*/plan.json")
    return Plan.open(path.parent)


def planned(scratch: Path, count: int) -> list[PlannedClip]:
    """Return the first `count` clips of the train split of the plan, which is built in `scratch` if needed."""
    return plan(scratch).clips("train", 0, count)


def renderer() -> Renderer:
    """Return a renderer for the instruments of the sample spec."""
    return Renderer(soundfont_path(spec().rendering.soundfont), spec().rendering, spec().clip.sample_rate)


def audio(scratch: Path, count: int) -> np.ndarray:
    """Return the first `count` train clips of the plan, rendered: float32 [count, 1, N]."""
    with renderer() as plays:
        clips = [
            plays.render(clip.notes, spec().instruments[clip.instrument], spec().clip.samples)
            for clip in planned(scratch, count)
        ]
    return np.stack(clips)[:, None]


def dataset(scratch: Path, format_name: str) -> Path:
    """Return the folder of a small dataset of a format, built in `scratch` if needed."""
    folder = scratch / "data" / f"PVT-{format_name}"
    if not (folder / "dataset.json").is_file():
        command(scratch, "--format", format_name, "--clips", SMALL if format_name == "cqt" else CLIPS)
    return folder


def command(scratch: Path, *options: str) -> None:
    """Run `python -m pipeline dataset OPTIONS` on one thread per process, with `scratch`/data as output.

    Raises:
        RuntimeError: the command failed.
    """
    run_python("pipeline", "dataset", "--out", str(scratch / "data"), *options, OMP_NUM_THREADS="1")


def run_python(package: str, *options: str, **environment: str) -> None:
    """Run `python -m PACKAGE OPTIONS` in the folder of the project with further variables of the environment.

    Raises:
        RuntimeError: the command failed; the message has the last 300 characters of its stderr.
    """
    start = [sys.executable, "-m", package, *options]
    done = subprocess.run(start, cwd=ROOT, capture_output=True, text=True, env={**os.environ, **environment})
    if done.returncode:
        raise RuntimeError(f"python -m {package} {' '.join(options)} failed: {done.stderr.strip()[-300:]}")

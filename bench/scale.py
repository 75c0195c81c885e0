"""Time per clip and memory of dataset builds with 1, 4 and 16 times as many clips; neither should grow."""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench.fixtures import ROOT, Context, plan
from bench.processes import Memory, family
from bench.table import Row, at_most
from data_specs.spec import SPLITS, ClipCounts

FORMAT = "encodec"
FACTORS = (1, 4, 16)


def rows(context: Context) -> list[Row]:
    """Return rows of the time of a further clip and of the largest memory of a client and of a worker.

    The time is that between 4x and 16x as many clips, beside that between 1x and 4x. The memory is that of 16x, beside
    that of 1x.
    """
    planned = plan(context.scratch)  # so that index and plan are not measured
    train, valid = (planned.counts[split] // FACTORS[-1] for split in SPLITS)
    sizes = [ClipCounts(train=factor * train, valid=factor * valid) for factor in FACTORS]
    seconds, memory = zip(*(built(context.scratch, size) for size in sizes), strict=True)
    clips = [size.train + size.valid for size in sizes]
    early = (seconds[1] - seconds[0]) / (clips[1] - clips[0])
    late = (seconds[2] - seconds[1]) / (clips[2] - clips[1])
    counts = ", ".join(f"{count} in {took:.0f} s" for count, took in zip(clips, seconds, strict=True))

    def grown(figure: str, unit: str, ours: float, baseline: str, other: float, note: str) -> Row:
        return Row(figure, unit, ours, baseline, other, ours / other, None, "ours / baseline", at_most(1.1), note)

    figure, quarter = f"time of a further {FORMAT} clip, all cores", "the same at a quarter of the clips"
    found = [grown(figure, "ms", 1e3 * late, quarter, 1e3 * early, counts)]
    for role in ("client", "worker"):
        sizes = [of_run.get(role, {"all": 0.0})["all"] for of_run in memory]
        note = f"{', '.join(f'{size:.0f} MB' for size in sizes)} for {', '.join(map(str, clips))} clips"
        figure = f"largest memory of a {role} at {FACTORS[-1]} times the clips"
        found.append(grown(figure, "MB", sizes[-1], "the same at 1x", sizes[0], note))
    return found


def built(scratch: Path, size: ClipCounts) -> tuple[float, dict[str, dict[str, float]]]:
    """Return the seconds of `make dataset` with `size` clips, and its memory as from `Memory.summary`.

    Index and plan in `scratch` are used; the dataset is deleted.

    Raises:
        RuntimeError: the build failed.
    """
    with tempfile.TemporaryDirectory(dir=scratch) as out:
        options = ["--format", FORMAT, "--clips", f"{size.train}:{size.valid}", "--out", out]
        command = [sys.executable, "-m", "pipeline", "dataset", *options, "--index", str(scratch / "data")]
        started = time.perf_counter()
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        with Memory(lambda: family(process.pid)) as memory:
            said = process.communicate()[1]
        if process.returncode:
            raise RuntimeError(f"make dataset CLIPS={options[3]} failed: {said.strip()[-300:]}")
        return time.perf_counter() - started, memory.summary()

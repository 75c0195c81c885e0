"""Pipeline throughput by format: clips per second of the command, and time of the stages in one worker."""

import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import torch

from bench.fixtures import CLIPS, SMALL, Context, command, plan, renderer, spec
from bench.table import Row
from data_specs.formats import FORMATS
from data_specs.representations import representation
from data_specs.spec import ClipCounts
from pipeline.build import shards
from pipeline.build.shards import ShardBuilder, ShardTask

ALONE_CLIPS = 40  # clips built by one worker whose stages are timed
# Functions of pipeline.build.shards by stage; the rest of the time is writing, digests and statistics.
STAGES = {"render": "render_chunk", "encode": "encode_chunk", "controls": "control_arrays"}
WRITE = "write"


def rows(context: Context) -> list[Row]:
    """Return the rows of `whole` and `alone` for each format. Index and plan are built before the measurement."""
    torch.set_num_threads(1)
    plan(context.scratch)
    return [row for name in FORMATS for row in (whole(context.scratch, name), alone(context.scratch, name))]


def whole(scratch: Path, name: str) -> Row:
    """Return a row of clips per second of `make dataset` for the format `name`.

    All cores are used. Start-up and writing of dataset.json are included; index and plan are not where they exist in
    `scratch`, as `rows` ensures.
    """
    clips = ClipCounts.parse(SMALL if name in ("cqt", "audio") else CLIPS)
    count = clips.train + clips.valid
    started = time.perf_counter()
    command(scratch, "--format", name, "--clips", f"{clips.train}:{clips.valid}")
    seconds = time.perf_counter() - started
    figure = f"make dataset FORMAT={name} CLIPS={clips.train}:{clips.valid}, all cores, start-up included"
    return Row(figure, "clips/s", count / seconds, note=f"{seconds:.1f} s in all")


def alone(scratch: Path, name: str) -> Row:
    """Return a row of clips per second of one worker for the format `name`, without start-up.

    Its note has the milliseconds per clip, and the share of the time of each stage.
    """
    with renderer() as plays, tempfile.TemporaryDirectory(dir=scratch) as folder:
        stored = representation(name, spec().codec.name, spec().codec.codebooks)
        builder = ShardBuilder(spec(), plan(scratch), plays, {name: stored}, "bench")
        chunk = spec().format(name).chunk_clips
        builder.build([ShardTask(name, "train", 0, 2, 0, chunk)], Path(folder))  # loads and warms
        with timed(STAGES) as seconds:
            started = time.perf_counter()
            builder.build([ShardTask(name, "train", 1, 2, chunk, chunk + ALONE_CLIPS)], Path(folder))
            total = time.perf_counter() - started
    seconds[WRITE] = total - sum(seconds.values())
    shares = ", ".join(f"{stage} {seconds[stage] / total:.0%}" for stage in (*STAGES, WRITE))
    figure = f"{name} shards, one worker of one thread, start-up excluded"
    return Row(figure, "clips/s", ALONE_CLIPS / total, note=f"{1e3 * total / ALONE_CLIPS:.1f} ms a clip: {shares}")


@contextmanager
def timed(stages: dict[str, str]) -> Iterator[dict[str, float]]:
    """Time functions of `pipeline.build.shards` during the block; the value is a dict of seconds by stage.

    `stages` has the name of a function for each stage. Seconds of a stage are added after each call.
    """
    seconds: dict[str, float] = defaultdict(float)

    def around(stage: str, function: Any) -> Any:
        def measured(*arguments: Any, **options: Any) -> Any:
            started = time.perf_counter()
            try:
                return function(*arguments, **options)
            finally:
                seconds[stage] += time.perf_counter() - started

        return measured

    replaced = {name: around(stage, getattr(shards, name)) for stage, name in stages.items()}
    with mock.patch.multiple(shards, **replaced):
        yield seconds

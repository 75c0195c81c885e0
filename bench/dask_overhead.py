"""Overhead of Dask: building the same shards by a Dask cluster, by a loop in one process and by two processes.

All processes are started before the measurement, and run in turn. Tasks are those of the pipeline, with shards of a
quarter of the usual size, for which the overhead is larger.
"""

import multiprocessing
import tempfile
import time
from collections.abc import Sequence
from multiprocessing.pool import Pool
from pathlib import Path

import torch

from bench.fixtures import Context, plan, spec
from bench.processes import tree_cpu_seconds
from bench.table import Row, Timings, Work, at_least, at_most, interleaved
from data_specs.representations import representation
from pipeline.build.shards import ShardBuilder, ShardTask
from pipeline.build.tasks import PLUGIN, ShardWorker, build_shards
from pipeline.cluster.cluster import Cluster
from pipeline.cluster.workers import LocalWorkers
from pipeline.plan.plan import Plan
from pipeline.render.renderer import Renderer
from pipeline.render.soundfont import soundfont_path

FORMAT = "encodec"
SHARD_CLIPS = 25
WORK_SECONDS = 120.0  # on one thread, in all rounds of a short benchmark together
ROUNDS, FULL_ROUNDS = 8, 16
LOOP, BARE, DASK_1, DASK_2 = "one plain loop", "two bare processes", "Dask, one worker", "Dask, two workers"
_made: list[ShardBuilder] = []  # the builder of a process without Dask


def rows(context: Context) -> list[Row]:
    """Return rows of milliseconds per clip; their ratios in processor time count all processes."""
    rounds = FULL_ROUNDS if context.full else ROUNDS
    planned = plan(context.scratch)
    with tempfile.TemporaryDirectory(dir=context.scratch) as folder:
        timings, tasks = measured(planned, Path(folder), rounds)
    work = f"shards of {SHARD_CLIPS} {FORMAT} clips, {rounds} x {tasks} of them"
    note, unit = "excluding start-up", "ms a clip"
    return [
        timings.row(f"{work}, one worker over a loop", DASK_1, LOOP, at_most(1.05), note, unit=unit, limit=True),
        timings.row(f"{work}, speed of two workers", DASK_2, BARE, at_least(0.95), note, unit=unit),
        timings.row(f"{work}, two workers over one loop", DASK_2, LOOP, None, note, unit=unit),
    ]


def measured(planned: Plan, folder: Path, rounds: int) -> tuple[Timings, int]:
    """Return the timings of the four ways over `rounds` rounds, and the number of shards per round.

    `planned` is the plan of the sample spec; shards are written to `folder`.
    """
    soundfont = soundfont_path(spec().rendering.soundfont)
    with (
        multiprocessing.get_context("spawn").Pool(2, _start, (planned.path, soundfont)) as bare,
        Cluster(LocalWorkers(1)) as one,
        Cluster(LocalWorkers(2)) as two,
    ):
        for cluster in (one, two):
            cluster.register(ShardWorker(spec(), (FORMAT,), planned, soundfont.resolve(), False), PLUGIN)
        count = _tasks_of(WORK_SECONDS / ROUNDS, bare, folder)
        tasks = [((_task(number),), folder) for number in range(count)]
        ways: dict[str, Work] = {
            LOOP: lambda: _by_processes(bare, [tasks]),
            DASK_1: lambda: _by_dask(one, tasks),
            BARE: lambda: _by_processes(bare, [tasks[0::2], tasks[1::2]]),
            DASK_2: lambda: _by_dask(two, tasks),
        }
        for cluster in (one, two):  # first tasks include start-up
            _by_dask(cluster, tasks[:4])
        _by_processes(bare, [tasks[:1], tasks[1:2]])
        return interleaved(ways, rounds, warm_ups=0, cpu_clock=tree_cpu_seconds), count


def _task(number: int) -> ShardTask:
    """Return the task of shard `number`, with the clips of shard `number` % 10, so that a small plan suffices."""
    first = number % 10 * SHARD_CLIPS
    return ShardTask(FORMAT, "train", number, 0, first, first + SHARD_CLIPS)


def _tasks_of(seconds: float, bare: Pool, folder: Path) -> int:
    """Return an even number of shards, at least 2, that one thread builds in about `seconds`.

    It is estimated by building shards with the pool `bare` in `folder`.
    """
    _by_processes(bare, [[((_task(0),), folder)], [((_task(1),), folder)]])  # start-up of both
    started = time.perf_counter()
    _by_processes(bare, [[((_task(0),), folder), ((_task(1),), folder)]])
    return max(2, 2 * round(seconds / (time.perf_counter() - started)))


def _by_dask(cluster: Cluster, tasks: Sequence[tuple[tuple[ShardTask], Path]]) -> int:
    return sum(receipt.clips for built in cluster.run(build_shards, tasks, "shard") for _, receipt in built)


def _by_processes(pool: Pool, shares: Sequence[Sequence[tuple[tuple[ShardTask], Path]]]) -> int:
    return sum(pool.map(_build, shares, chunksize=1))


def _start(plan_path: Path, soundfont: Path) -> None:
    torch.set_num_threads(1)
    renderer = Renderer(soundfont, spec().rendering, spec().clip.sample_rate)
    stored = representation(FORMAT, spec().codec.name, spec().codec.codebooks)
    _made.append(ShardBuilder(spec(), Plan.open(plan_path), renderer, {FORMAT: stored}, "bench"))


def _build(tasks: Sequence[tuple[tuple[ShardTask], Path]]) -> int:
    return sum(receipt.clips for joint, folder in tasks for _, receipt in _made[0].build(joint, folder))

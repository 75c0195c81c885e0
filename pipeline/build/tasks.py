"""What runs on the workers while a format is built: a worker's set-up, and the two kinds of task."""

from pathlib import Path
from typing import Any

from distributed import WorkerPlugin, get_worker

from data_specs.representations import representation
from data_specs.spec import Spec
from pipeline.build import machine
from pipeline.build.shards import Receipt, ShardBuilder, ShardTask
from pipeline.plan.plan import Plan
from pipeline.render.isolated_renderer import IsolatedRenderer
from pipeline.render.renderer import Renderer

PLUGIN = "pvt-shards"


class ShardWorker(WorkerPlugin):
    """Sets up a worker process once: one computing thread, the SoundFont, the codec, the plan.

    With `gpu`, workers that declare the resource encode there, and the others have nothing to do.
    """

    def __init__(self, spec: Spec, format_name: str, plan: Path, soundfont: Path, gpu: bool) -> None:
        self.spec = spec
        self.format = format_name
        self.plan = plan
        self.soundfont = soundfont
        self.gpu = gpu
        self.builders: dict[bool, ShardBuilder] = {}

    def setup(self, worker: Any) -> None:
        """Called by Dask in the worker's process."""
        machine.repeatable_arithmetic()
        if not self.gpu or "GPU" in worker.state.total_resources:
            self.builder(careful=False)

    def teardown(self, worker: Any) -> None:
        """Called by Dask when the worker ends or the plugin is replaced."""
        while self.builders:
            self.builders.popitem()[1].renderer.close()

    def builder(self, careful: bool) -> ShardBuilder:
        """The worker's builder; a careful one plays every clip in a child process."""
        if careful not in self.builders:
            spec, device = self.spec, shard_device(self.gpu)
            renderer = IsolatedRenderer if careful else Renderer
            self.builders[careful] = ShardBuilder(
                spec,
                Plan.open(self.plan),
                renderer(self.soundfont, spec.rendering, spec.clip.sample_rate),
                representation(self.format, spec.codec.name, spec.codec.codebooks),
                machine.machine_kind(device),
                device,
            )
        return self.builders[careful]


def shard_device(gpu: bool) -> str:
    """The torch device on which this process encodes."""
    import torch

    return "cuda" if gpu and torch.cuda.is_available() else "cpu"


def shard_machine(gpu: bool) -> str:
    """The kind of machine on which this process computes shards."""
    return machine.machine_kind(shard_device(gpu))


def build_shard(task: ShardTask, folder: Path, careful: bool = False) -> Receipt:
    """Write one shard."""
    plugin: ShardWorker = get_worker().plugins[PLUGIN]
    return plugin.builder(careful).build(task, folder)


def batching_share(task: ShardTask, folder: Path, careful: bool = False) -> float:
    """How much batches matter to stored values, see ShardBuilder; of the same form as `build_shard`."""
    plugin: ShardWorker = get_worker().plugins[PLUGIN]
    return plugin.builder(careful).batching_share(task)


def carefully(task: tuple[Any, ...]) -> list[tuple[Any, ...]]:
    """In place of a task that lost its worker again and again: the same, once, with every clip in a child process."""
    shard, folder, *careful = task
    return [] if careful else [(shard, folder, True)]

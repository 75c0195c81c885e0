"""Worker side of a build: the set-up of a worker process and the task that it runs."""

from pathlib import Path
from typing import Any

from distributed import WorkerPlugin, get_worker

from data_specs.representations import representation
from data_specs.spec import Spec
from pipeline.build.machine import machine_kind, set_deterministic
from pipeline.build.shards import Receipt, ShardBuilder, ShardTask
from pipeline.plan.plan import Plan
from pipeline.recordings.index import RecordingStore, store_folder
from pipeline.render.isolated_renderer import IsolatedRenderer
from pipeline.render.renderer import Renderer, RendererProtocol

PLUGIN = "pvt-shards"


class ShardWorker(WorkerPlugin):
    """Set-up of a worker process: one computing thread, SoundFont or store of recordings, codec and plan.

    With `gpu`, only workers that declare the resource GPU encode; the others load nothing.
    """

    def __init__(self, spec: Spec, formats: tuple[str, ...], plan: Plan, soundfont: Path | None, gpu: bool) -> None:
        self.spec = spec
        self.formats = formats
        self.plan = plan
        self.soundfont = soundfont
        self.gpu = gpu
        self.builders: dict[bool, ShardBuilder] = {}

    def setup(self, worker: Any) -> None:
        """Load everything; Dask calls this in the worker process."""
        set_deterministic()
        if not self.gpu or "GPU" in worker.state.total_resources:
            self.builder(isolated=False)

    def teardown(self, worker: Any) -> None:
        """Free everything; Dask calls this when the worker ends or the plugin is replaced."""
        while self.builders:
            self.builders.popitem()[1].renderer.close()

    def builder(self, isolated: bool) -> ShardBuilder:
        """Return the worker's builder; an isolated one renders in a child process."""
        if isolated not in self.builders:
            spec, device = self.spec, shard_device(self.gpu)
            codec = spec.codec
            self.builders[isolated] = ShardBuilder(
                spec,
                self.plan,
                self._clip_source(isolated),
                {name: representation(name, codec.name, codec.codebooks) for name in self.formats},
                machine_kind(device),
                device,
            )
        return self.builders[isolated]

    def _clip_source(self, isolated: bool) -> RendererProtocol | RecordingStore:
        spec = self.spec
        if self.soundfont is None:
            return RecordingStore(store_folder(spec, self.plan.path.parent))
        renderer = IsolatedRenderer if isolated else Renderer
        return renderer(self.soundfont, spec.rendering, spec.clip.sample_rate)


def shard_device(gpu: bool) -> str:
    """Return the torch device on which this process encodes."""
    import torch

    return "cuda" if gpu and torch.cuda.is_available() else "cpu"


def shard_machine(gpu: bool) -> str:
    """Return the kind of machine on which this process computes shards."""
    return machine_kind(shard_device(gpu))


def build_shards(tasks: tuple[ShardTask, ...], out: Path, isolated: bool = False) -> list[tuple[ShardTask, Receipt]]:
    """Write shards that share their clips, see `ShardBuilder.build`."""
    plugin: ShardWorker = get_worker().plugins[PLUGIN]
    return plugin.builder(isolated).build(tasks, out)


def retry_isolated(task: tuple[Any, ...]) -> list[tuple[Any, ...]]:
    """Replace a task that repeatedly lost its worker: once more, with every clip rendered in a child process."""
    tasks, out, *isolated = task
    return [] if isolated else [(tasks, out, True)]

"""Set-up of the worker processes of a build, and the task that they run: writing shards."""

import threading
from pathlib import Path
from typing import Any

from distributed import WorkerPlugin, get_worker

from data_specs.representations import representation
from data_specs.spec import Spec
from pipeline.build.machine import machine_kind, set_deterministic
from pipeline.build.shards import ClipSource, Receipt, ShardBuilder, ShardTask
from pipeline.plan.plan import Plan
from pipeline.recordings.index import RecordingStore, store_folder
from pipeline.render.isolated_renderer import IsolatedRenderer
from pipeline.render.renderer import Renderer

PLUGIN = "pvt-shards"


class ShardWorker(WorkerPlugin):
    """Dask plugin of a worker process: loads the SoundFont or the store of recordings, the codec and the plan.

    Args:
        spec: the spec.
        formats: names of the formats to build.
        plan: the plan, in a folder that the worker can read.
        soundfont: path of the SoundFont; None for recordings.
        gpu: only workers that declare the resource GPU load at set-up, because no other gets shards to build.
    """

    def __init__(self, spec: Spec, formats: tuple[str, ...], plan: Plan, soundfont: Path | None, gpu: bool) -> None:
        self.spec = spec
        self.formats = formats
        self.plan = plan
        self.soundfont = soundfont
        self.gpu = gpu
        self.builders: dict[bool, ShardBuilder] = {}

    def setup(self, worker: Any) -> None:
        """Set torch's options by `set_deterministic`, and load everything if this worker gets shards to build.

        Dask calls this in the worker process.
        """
        self._lock = threading.Lock()  # of the two attributes that follow
        self._running, self._ended = 0, False
        set_deterministic()
        if not self.gpu or "GPU" in worker.state.total_resources:
            self.builder(isolated=False)

    def teardown(self, worker: Any) -> None:
        """Close the renderers and drop the builders. Dask calls this when the worker ends or the plugin is replaced.

        A task of a client that was killed may still render in a thread of tasks, where a SoundFont that is freed
        crashes the process. The builders are then closed at the end of the last such task.
        """
        with self._lock:
            self._ended = True
            self._close_unused()

    def build(self, tasks: tuple[ShardTask, ...], out: Path, isolated: bool) -> list[tuple[ShardTask, Receipt]]:
        """Write shards below `out` with the builder for `isolated`, see `ShardBuilder.build`."""
        with self._lock:
            self._running += 1
        try:
            return self.builder(isolated).build(tasks, out)
        finally:
            with self._lock:
                self._running -= 1
                self._close_unused()

    def _close_unused(self) -> None:
        while self._ended and not self._running and self.builders:
            self.builders.popitem()[1].renderer.close()

    def builder(self, isolated: bool) -> ShardBuilder:
        """Return the builder of this worker for one value of `isolated`, made on the first call.

        Args:
            isolated: render in a child process. Without effect for recordings, which are not rendered.
        """
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

    def _clip_source(self, isolated: bool) -> ClipSource:
        spec = self.spec
        if self.soundfont is None:
            return RecordingStore(store_folder(spec, self.plan.path.parent))
        renderer = IsolatedRenderer if isolated else Renderer
        return renderer(self.soundfont, spec.rendering, spec.clip.sample_rate)


def shard_device(gpu: bool) -> str:
    """Return the torch device on which this process encodes: cuda if `gpu` and there is one, else cpu."""
    import torch

    return "cuda" if gpu and torch.cuda.is_available() else "cpu"


def shard_machine(gpu: bool) -> str:
    """Return the kind of machine on which this process builds shards, see `machine_kind`."""
    return machine_kind(shard_device(gpu))


def build_shards(tasks: tuple[ShardTask, ...], out: Path, isolated: bool = False) -> list[tuple[ShardTask, Receipt]]:
    """Write shards below `out` and return each with its receipt, see `ShardBuilder.build`.

    Runs on a worker that has the plugin ShardWorker. With `isolated`, clips are rendered in a child process.
    """
    plugin: ShardWorker = get_worker().plugins[PLUGIN]
    return plugin.build(tasks, out, isolated)


def retry_isolated(task: tuple[Any, ...]) -> list[tuple[Any, ...]]:
    """Return the tasks that replace one whose worker died repeatedly: one that renders in a child process.

    Empty for a task that is such a replacement itself.

    Args:
        task: the arguments of `build_shards`.
    """
    tasks, out, *isolated = task
    return [] if isolated else [(tasks, out, True)]

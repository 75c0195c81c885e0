"""A dataset request resolved: one job per format, with its shards, its key and its folder."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from data_specs.dataset import CLIPS_TABLE, layout, load_manifest
from data_specs.io.files import file_sha256
from data_specs.representations import Representation
from data_specs.spec import SPLITS, Spec
from pipeline.build.folder import BuildFolder
from pipeline.build.presets import LIMITS, preset_limits, velocity_law
from pipeline.build.shards import ShardSubset, ShardTask, features_of, shard_tasks
from pipeline.cluster.workers import Workers
from pipeline.plan.plan import Plan
from pipeline.rejects import Rejects


@dataclass(frozen=True)
class Request:
    """Options of `make dataset`; `subset` is SHARDS=."""

    spec: Spec
    formats: tuple[str, ...]
    out: Path
    index: Path
    workers: Workers
    dry_run: bool
    force: bool
    accept_fewer: bool
    accept_device: bool
    subset: ShardSubset | None


@dataclass(frozen=True)
class Job:
    """One format of a request.

    Attributes:
        rejects: files, tracks and windows left out up to the plan.
        key: everything that decides the format's bytes.
        tasks: all shards of the dataset.
        velocity_law_db: as in dataset.json.
    """

    spec: Spec
    plan: Plan
    rejects: Rejects
    representation: Representation
    key: dict[str, Any]
    folder: BuildFolder
    tasks: tuple[ShardTask, ...]
    velocity_law_db: dict[str, float] = field(default_factory=dict)

    @cached_property
    def record_bytes(self) -> int:
        """Size of one framed record in bytes."""
        return layout(features_of(self.spec, self.representation)).size

    @cached_property
    def shapes(self) -> str:
        """Content of shapes.txt."""
        return "".join(f"{feature}\n" for feature in features_of(self.spec, self.representation))

    @cached_property
    def clips(self) -> dict[str, int]:
        """Planned clips of each split."""
        return {split: sum(task.clips for task in self.tasks if task.split == split) for split in SPLITS}

    @cached_property
    def is_complete(self) -> bool:
        """Whether a finished dataset with at least these clips exists: tables, and every shard with its size.

        The content of the shards is checked by `make validate`.
        """
        folder = self.folder
        table = folder.path / CLIPS_TABLE
        # promise: written-again-next-run-2
        # promise: written-again-next-run-3
        if not (folder.manifest.is_file() and table.is_file() and folder.shapes_match(self.shapes)):
            return False
        splits = load_manifest(folder.path).splits
        if any(self.clips[split] > splits[split].planned for split in SPLITS):
            return False
        files = [(folder.path / shard.file, shard.bytes) for split in splits.values() for shard in split.shards]
        # promise: named-validate-reader-truncated
        return all(file.is_file() and file.stat().st_size == size for file, size in files)

    @cached_property
    def keeps_more(self) -> bool:
        """Whether the finished dataset has more clips than the request asks for."""
        planned = self.folder.planned()
        return any(planned[split] > self.spec.clips_of(self.representation.name, split) for split in SPLITS)


def make_jobs(
    request: Request, plan: Plan, rejects: Rejects, formats: Iterable[Representation], soundfont: Path | None
) -> list[Job]:
    """Return a job for each format of the request; `soundfont` is None for recordings."""
    spec, jobs = request.spec, []
    # promise: refused-name-key-nothing-2
    law = {} if soundfont is None else velocity_law(spec, soundfont, request.index)
    sound = {} if soundfont is None else {"soundfont": file_sha256(soundfont)}
    for representation in formats:
        name = representation.name
        plan_key = {**spec.plan_key(), "sources": plan.digest}
        key = {**spec.format_key(name), "plan": plan_key, **sound, "transform": representation.digest}
        if (limits := preset_limits(plan, spec)) is not None:
            key[LIMITS] = limits
        folder = BuildFolder(request.out, name)
        # promise: written-again-next-run
        existing = {} if request.force else folder.planned()  # a repair keeps finished clips, whatever is asked for
        tasks = [
            task
            for split in SPLITS
            for task in shard_tasks(
                name,
                split,
                min(max(spec.clips_of(name, split), existing.get(split, 0)), plan.counts[split]),
                spec.format(name).shard_clips,
            )
        ]
        jobs.append(Job(spec, plan, rejects, representation, key, folder, tuple(tasks), law))
    return jobs

"""Jobs of a dataset request: for each format its shards, its format key and its folder."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from data_specs.dataset import CLIPS_TABLE, SHAPES, layout, load_manifest
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
    """Options of `make dataset`.

    Attributes:
        spec: the spec.
        formats: names of the formats to build.
        out: parent folder of the datasets.
        index: folder of the index.
        workers: source of the workers.
        dry_run: print the plan and build no dataset.
        force: rename existing folders of the formats and build them again.
        accept_fewer: build even if there are fewer clips than asked for or many with faulty audio.
        accept_device: accept shards of several kinds of machine.
        subset: the shards to build, from SHARDS=; None for all.
    """

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
        rejects: files, tracks and windows that were left out up to the plan.
        key: the format key: JSON values that decide the bytes of the format.
        folder: folder of the dataset.
        tasks: all shards of the dataset, finished or not.
        velocity_law_db: by instrument name, the largest deviation of its level from 40 log10(velocity / 127) dB; empty
            without expression and for recordings.
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
        """Number of bytes of one record in a shard, with the header and checksums of TFRecord."""
        return layout(features_of(self.spec, self.representation)).size

    @cached_property
    def shapes(self) -> str:
        """Content of shapes.txt: one line per feature."""
        return "".join(f"{feature}\n" for feature in features_of(self.spec, self.representation))

    @cached_property
    def clips(self) -> dict[str, int]:
        """Number of planned clips by split. Fewer are stored if clips are rejected while shards are built."""
        return {split: sum(task.clips for task in self.tasks if task.split == split) for split in SPLITS}

    @cached_property
    def is_complete(self) -> bool:
        """Whether the folder holds a finished dataset with at least the planned clips, as it was when first asked.

        dataset.json, clips.parquet and shapes.txt must exist, shapes.txt must have the expected content, and every
        shard must have the size that dataset.json gives. `make validate` checks the content of shards.

        Raises:
            UserError: dataset.json is damaged or of another format version.
        """
        folder = self.folder
        table, shapes = folder.path / CLIPS_TABLE, folder.path / SHAPES
        # promise: written-again-next-run-2
        # promise: written-again-next-run-3
        if not (folder.manifest.is_file() and table.is_file() and shapes.is_file()):
            return False
        if shapes.read_bytes() != self.shapes.encode():
            return False
        splits = load_manifest(folder.path).splits
        if any(self.clips[split] > splits[split].planned for split in SPLITS):
            return False
        files = [(folder.path / shard.file, shard.bytes) for split in splits.values() for shard in split.shards]
        # promise: named-validate-reader-truncated
        return all(file.is_file() and file.stat().st_size == size for file, size in files)

    @cached_property
    def keeps_more(self) -> bool:
        """Whether the dataset in the folder has more planned clips in a split than the request asks for.

        Raises:
            UserError: dataset.json is damaged.
        """
        planned = self.folder.planned()
        return any(planned[split] > self.spec.clips_of(self.representation.name, split) for split in SPLITS)


def make_jobs(
    request: Request, plan: Plan, rejects: Rejects, formats: Iterable[Representation], soundfont: Path | None
) -> list[Job]:
    """Return a job for each of `formats`, in their order.

    A job plans as many clips of a split as the request asks for, at least those that the folder already has planned
    unless `request.force` is set, and at most those of the plan. Checks of presets may be written to the index, see
    `check_presets`.

    Args:
        request: the request.
        plan: the plan of its spec.
        rejects: files, tracks and windows left out up to the plan.
        formats: representations of the requested formats.
        soundfont: path of the SoundFont; None for recordings.

    Raises:
        UserError: the manifest in a folder is damaged.
    """
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
        existing = {} if request.force else folder.planned()  # all finished clips are kept, even if fewer are asked for
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

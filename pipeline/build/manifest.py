"""What is written beside finished shards: the manifest's content, the table of clips and the rejects."""

import json
from collections.abc import Iterator, Sequence
from functools import reduce
from operator import add
from pathlib import Path
from typing import Any

from data_specs.dataset import FORMAT_VERSION, DatasetInfo, Shard, Split
from data_specs.io.files import atomic_write
from data_specs.representations import Representation, Statistics
from data_specs.spec import SPLITS, Spec
from pipeline.build.shards import Receipt, ShardTask
from pipeline.plan.plan import Plan
from pipeline.rejects import Rejects

REJECTS = "rejects.json"
ROWS = 4096  # of clips.parquet held in memory at once


def shards_of(tasks: Sequence[ShardTask], receipts: dict[tuple[str, int], Receipt]) -> dict[str, Split]:
    """The manifest's splits, from the receipts of all shards."""
    splits = {}
    for split in SPLITS:
        mine = [(task, receipts[split, task.number]) for task in tasks if task.split == split]
        shards = tuple(Shard(file=t.file, clips=r.clips, bytes=r.bytes, sha256=r.sha256) for t, r in mine)
        planned = sum(task.stop - task.start for task, _ in mine)
        splits[split] = Split(planned=planned, clips=sum(r.clips for _, r in mine), shards=shards)
    return splits


def train_statistics(receipts: dict[tuple[str, int], Receipt]) -> dict[str, Any] | None:
    """Sums over the train split, merged in shard order so that they are the same however the work was shared."""
    # promise: statistics-float64-sums-merged
    # promise: statistics-float64-sums-merged-2
    parts = [receipts[key].statistics for key in sorted(receipts) if key[0] == "train"]
    sums = [Statistics.from_json(part) for part in parts if part is not None]
    return reduce(add, sums).to_json() if sums else None


def all_rejects(planned: Rejects, receipts: dict[tuple[str, int], Receipt]) -> Rejects:
    """Everything left out: files, tracks and windows up to the plan, clips by their audio."""
    rejects = Rejects()
    rejects.merge(planned)
    for receipt in receipts.values():
        for fault in receipt.faults:
            rejects.add(f"audio: {fault.reason}", f"clip {fault.id}")
    return rejects


def write_clips(path: Path, plan: Plan, tasks: Sequence[ShardTask], receipts: dict[tuple[str, int], Receipt]) -> None:
    """clips.parquet: one row a clip in the order of the records, with where it comes from and how it was played."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    writer = None
    with atomic_write(path) as file:
        # promise: finished-fewer-accepted-empty
        for rows in filter(None, _batches(plan, tasks, receipts)):  # a shard all of whose clips are at fault has none
            table = pa.Table.from_pylist(rows)
            if writer is None:
                writer = pq.ParquetWriter(file, table.schema)
            writer.write_table(table.cast(writer.schema))
        if writer is None:
            pq.write_table(
                pa.table({name: pa.array([], pa.string()) for name in ("id", "split", "source_digest")}), file
            )
        else:
            writer.close()


def _batches(
    plan: Plan, tasks: Sequence[ShardTask], receipts: dict[tuple[str, int], Receipt]
) -> Iterator[list[dict[str, Any]]]:
    for task in tasks:
        levels = receipts[task.split, task.number].levels_dbfs
        for start in range(task.start, task.stop, ROWS):
            planned = plan.clips(task.split, start, min(start + ROWS, task.stop))
            yield [
                {"id": c.id, "split": task.split, "shard": task.number, **c.record(), "level_dbfs": levels[c.id]}
                for c in planned
                if c.id in levels
            ]


def _notes(rejects: Rejects) -> tuple[str, ...]:
    """What a reader should know: files given up by the clock or memory may be read on another machine."""
    given_up = {reason: rejects.counts[reason] for reason in ("timeout", "memory", "crash") if rejects.counts[reason]}
    return tuple(f"{n} MIDI files were given up by {why}, which may differ elsewhere" for why, n in given_up.items())


def manifest(
    spec: Spec,
    stored: Representation,
    plan: Plan,
    key: dict[str, Any],
    key_digest: str,
    versions: dict[str, str],
    licences: dict[str, str],
    tasks: Sequence[ShardTask],
    receipts: dict[tuple[str, int], Receipt],
    rejects: Rejects,
    batching_share: float,
) -> dict[str, Any]:
    """dataset.json, checked by the model that readers use."""
    info = DatasetInfo(
        format_version=FORMAT_VERSION,
        format=stored.name,
        label=stored.label,
        hop=stored.hop,
        clip_samples=spec.clip.samples,
        spec=spec,
        plan_digest=plan.digest,
        format_digest=key_digest,
        format_key=key,
        versions=versions,
        devices=tuple(sorted({receipt.machine for receipt in receipts.values()})),
        splits=shards_of(tasks, receipts),
        statistics=train_statistics(receipts),
        rejects=dict(sorted(rejects.counts.items())),
        licences=licences,
        batching_share=batching_share,
        notes=_notes(rejects),
    )
    content: dict[str, Any] = json.loads(info.model_dump_json())
    return content

"""Content of the files beside the shards of a finished dataset: dataset.json, clips.parquet and rejects.json."""

import json
from collections.abc import Iterator
from functools import reduce
from operator import add
from typing import Any

from data_specs.dataset import CLIPS_TABLE, FORMAT_VERSION, DatasetInfo, Shard, Split
from data_specs.io.files import atomic_write, value_digest
from data_specs.representations import Statistics
from data_specs.spec import SPLITS
from pipeline.build import machine
from pipeline.build.job import Job
from pipeline.build.shards import Receipts
from pipeline.midi.sources import TUNES
from pipeline.rejects import Rejects

REJECTS = "rejects.json"
ROWS = 4096  # rows of clips.parquet that are in memory at once


def manifest(job: Job, receipts: Receipts, rejects: Rejects) -> dict[str, Any]:
    """Return the content of dataset.json as JSON values. It is valid for `DatasetInfo`, the model that readers use.

    Args:
        job: the finished job.
        receipts: receipts of all its shards.
        rejects: all rejects, with those of the audio.
    """
    spec, representation = job.spec, job.representation
    info = DatasetInfo(
        format_version=FORMAT_VERSION,
        format=representation.name,
        label=representation.label,
        hop=representation.hop,
        clip_samples=spec.clip.samples,
        spec=spec,
        plan_digest=job.plan.digest,
        format_digest=value_digest(job.key),
        format_key=job.key,
        versions=machine.versions(),
        devices=tuple(sorted({receipt.machine for receipt in receipts.values()})),
        splits=_splits(job, receipts),
        statistics=train_statistics(receipts),
        rejects=dict(sorted(rejects.counts.items())),
        licences=_licences(job),
        notes=_notes(rejects),
        velocity_law_db=job.velocity_law_db,
    )
    content: dict[str, Any] = json.loads(info.model_dump_json())
    return content


def _splits(job: Job, receipts: Receipts) -> dict[str, Split]:
    """Return the entry of each split in dataset.json: planned clips, stored clips and shards."""
    splits = {}
    for split in SPLITS:
        mine = [(task, receipts[split, task.number]) for task in job.tasks if task.split == split]
        shards = tuple(Shard(file=t.file, clips=r.clips, bytes=r.bytes, sha256=r.sha256) for t, r in mine)
        splits[split] = Split(planned=job.clips[split], clips=sum(shard.clips for shard in shards), shards=shards)
    return splits


def train_statistics(receipts: Receipts) -> dict[str, Any] | None:
    """Return the `Statistics` of the stored data of all train clips as a JSON value: count, sums and sums of squares.

    They are added in the order of the shards, so the result does not depend on how the work was distributed. None for
    discrete formats, and if no train clip is stored.
    """
    # promise: statistics-float64-sums-merged
    # promise: statistics-float64-sums-merged-2
    parts = [receipts[key].statistics for key in sorted(receipts) if key[0] == "train"]
    sums = [Statistics.from_json(part) for part in parts if part is not None]
    return reduce(add, sums).to_json() if sums else None


def all_rejects(job: Job, receipts: Receipts) -> Rejects:
    """Return the rejects of a job: those up to the plan (files, tracks, windows) and the clips in its receipts.

    The reasons of clips begin with "audio: ".
    """
    rejects = Rejects()
    rejects.merge(job.rejects)
    for receipt in receipts.values():
        for fault in receipt.faults:
            rejects.add(f"audio: {fault.reason}", f"clip {fault.id}")
    return rejects


def write_clips(job: Job, receipts: Receipts) -> None:
    """Write clips.parquet to the folder of the job: one row per stored clip in the order of the records.

    A row has the source of the clip, how it was played, and its level in dBFS. Without any clip, the file has no rows
    and only the columns id, split and source_digest.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    writer = None
    with atomic_write(job.folder.path / CLIPS_TABLE) as file:
        # promise: finished-fewer-accepted-empty
        for rows in filter(None, _batches(job, receipts)):  # a shard whose clips are all rejected has no rows
            table = pa.Table.from_pylist(rows)
            if writer is None:
                writer = pq.ParquetWriter(file, table.schema)
            writer.write_table(table.cast(writer.schema))
        if writer is None:
            names = ("id", "split", "source_digest")
            pq.write_table(pa.table({name: pa.array([], pa.string()) for name in names}), file)
        else:
            writer.close()


def _batches(job: Job, receipts: Receipts) -> Iterator[list[dict[str, Any]]]:
    for task in job.tasks:
        levels = receipts[task.split, task.number].levels_dbfs
        for start in range(task.start, task.stop, ROWS):
            planned = job.plan.clips(task.split, start, min(start + ROWS, task.stop))
            yield [
                {"id": c.id, "split": task.split, "shard": task.number, **c.record(), "level_dbfs": levels[c.id]}
                for c in planned
                if c.id in levels
            ]


def _notes(rejects: Rejects) -> tuple[str, ...]:
    """Return remarks on the files that were left out for time, memory or a crash, which another machine may read."""
    given_up = {reason: rejects.counts[reason] for reason in ("timeout", "memory", "crash") if rejects.counts[reason]}
    return tuple(f"{n} files were given up by {why}, which may differ elsewhere" for why, n in given_up.items())


def _licences(job: Job) -> dict[str, str]:
    """Return the licence of each part of the dataset, as far as this project knows it."""
    codec = {"codec": job.representation.licence} if job.representation.licence else {}
    if job.spec.source.audio:
        return {"recordings": "see the source", **codec}
    melodies = "see the source" if job.spec.source.midi != TUNES else "public domain"
    return {"melodies": melodies, "soundfont": "see the file's own licence", **codec}

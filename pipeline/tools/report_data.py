"""Reading of finished datasets for the tools: counts, tables, notes and single clips."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_specs.arrays import Arrays, Float32, Int64
from data_specs.controls import CHROMA_STEPS, MAX_VELOCITY
from data_specs.dataset import CLIPS_TABLE, MANIFEST, DatasetInfo, Feature, Shard, folder_name, layout, load_info
from data_specs.errors import UserError
from data_specs.formats import FORMATS
from data_specs.records import RecordError, RecordLayout
from data_specs.representations import Representation, representation
from data_specs.spec import SPLITS
from pipeline.build.manifest import REJECTS
from pipeline.build.presets import built_plan
from pipeline.plan.index import INDEX_FOLDER
from pipeline.plan.plan import Plan

CLIPS_AT_ONCE = 1000  # clips of a plan that are in memory at once
MOST_CLIPS = 20_000  # clips whose notes are counted; more would not change a histogram


@dataclass(frozen=True)
class FinishedDataset:
    """A finished dataset: its folder, its manifest `info`, and the features of its records in stored order."""

    folder: Path
    info: DatasetInfo
    features: tuple[Feature, ...]

    @property
    def clips(self) -> int:
        """Number of stored clips in both splits."""
        return sum(split.clips for split in self.info.splits.values())

    @property
    def shards(self) -> list[Shard]:
        """Entries of the shards in the manifest, of train and then valid in order of their numbers."""
        return [shard for split in self.info.splits.values() for shard in split.shards]

    @property
    def size(self) -> int:
        """Number of bytes of all shards by the manifest."""
        return sum(shard.bytes for shard in self.shards)

    @cached_property
    def transform(self) -> Representation:
        """The representation of the dataset, with its codec.

        Raises:
            UserError: the codec's weights are missing, or are others than those with which the dataset was built.
        """
        codec = self.info.spec.codec
        made = representation(self.info.format, codec.name, codec.codebooks)
        if self.info.codec_digest and made.digest != self.info.codec_digest:
            raise UserError(
                f"{self.folder} was built with another codec {codec.name} than the present one, whose digest is "
                f"{made.digest[:12]}; restore the weights of digest {self.info.codec_digest[:12]}"
            )
        return made

    def record(self, split: str, index: int) -> Arrays:
        """Return the arrays of stored clip `index` (from 0) of a split by feature, with its id as `id`.

        All records before it are read, too.

        Raises:
            UserError: the shard is missing or damaged.
            StopIteration: the split has no such clip.
        """
        return next(islice(self.records_of(split), index, None))

    def records(self, shard: Shard) -> Iterator[Arrays]:
        """Iterate over the clips of a shard, each as its arrays by feature, with its id as `id`.

        The id is uint8 [16], ASCII. One record is in memory.

        Raises:
            UserError: the shard is missing or damaged.
        """
        path = self.folder / shard.file
        try:
            with open(path, "rb") as file:
                for number in range(shard.clips):
                    content = file.read(self.layout.size)
                    yield self.arrays(np.frombuffer(content, np.uint8), f"{path} record {number}")
        except OSError as error:
            raise UserError(f"{path} cannot be read ({error.strerror}); run make dataset again") from None

    def records_of(self, split: str) -> Iterator[Arrays]:
        """Iterate over the clips of all shards of a split in order, see `records`."""
        return chain.from_iterable(map(self.records, self.info.splits[split].shards))

    @cached_property
    def layout(self) -> RecordLayout:
        """Byte offsets of the features in a record."""
        return layout(self.features)

    def arrays(self, record: NDArray[np.uint8], where: str) -> Arrays:
        """Return the arrays in a record, uint8 [size], by feature in their stored types, with its id as `id`.

        `where` names the record in errors.

        Raises:
            RecordError: the record is cut off or damaged.
        """
        if len(record) < self.layout.size:
            raise RecordError(f"{where} is cut off; run make dataset again")
        self.layout.check(record, where)
        values = self.layout.values(record)
        arrays = {f.name: values[f.name].view(f.stored_dtype).reshape(f.shape) for f in self.features}
        return {**arrays, "id": values["id"]}

    def table_schema(self) -> Any:
        """Return the schema of clips.parquet, a pyarrow.Schema.

        Raises:
            OSError: the file is missing.
            pyarrow.ArrowException: it is damaged.
        """
        import pyarrow.parquet as pq

        return pq.read_schema(self.folder / CLIPS_TABLE)

    def sound(self, data: NDArray[Any]) -> Float32:
        """Return the decoded audio, float32 [N] at 24 kHz, of a clip's stored array `data`, [*shape].

        Raises:
            UserError: the codec is missing or another one now.
        """
        import torch

        decoded = self.transform.decode(torch.from_numpy(np.array(data, data.dtype.newbyteorder("=")))[None])
        return np.asarray(decoded[0, 0].numpy())

    @cached_property
    def table(self) -> dict[str, list[Any]]:
        """Columns of clips.parquet by name, each a list with one value per stored clip.

        Raises:
            UserError: the file is missing or damaged.
        """
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            return dict(pq.read_table(self.folder / CLIPS_TABLE).to_pydict())
        except (OSError, pa.ArrowException) as error:
            raise UserError(f"{self.folder / CLIPS_TABLE} cannot be read ({error}); run make dataset again") from None

    @cached_property
    def rejects(self) -> dict[str, Any]:
        """`{"count": ..., "examples": [...]}` by reason, from rejects.json.

        If that file is missing or damaged, the counts are those of the manifest and there are no examples.
        """
        try:
            found = json.loads((self.folder / REJECTS).read_text(encoding="utf-8"))
            return {str(reason): {"count": int(e["count"]), "examples": e["examples"]} for reason, e in found.items()}
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return {reason: {"count": count, "examples": []} for reason, count in self.info.rejects.items()}

    def plan(self) -> Plan | None:
        """Return the plan of the clips from the index folder beside the dataset; None if `built_plan` returns none."""
        built = built_plan(self.info, self.folder.parent / INDEX_FOLDER)
        return built and built[0]


@dataclass(frozen=True)
class NoteTable:
    """The notes of some clips; the arrays are [n] for n notes."""

    pitch: Int64  # MIDI pitch, or pitch class where `exact` is false
    velocity: Int64
    samples: Int64  # length in samples at 24 kHz
    clips: int  # number of the clips
    exact: bool  # from the plan, else from the control curves, in which equal notes without a rest are one


def dataset_folders(data: Path, formats: Sequence[str] | None = None) -> list[Path]:
    """Return the folders of datasets to read, in the order of the formats.

    Args:
        data: a finished dataset, which is returned alone, or the parent folder of datasets.
        formats: names of formats whose folders are returned, whether they exist or not; None for all finished ones.

    Raises:
        UserError: `formats` is None and there is no finished dataset.
    """
    if (data / MANIFEST).is_file():
        return [data]
    folders = [data / folder_name(name) for name in formats or FORMATS]
    if formats is None:
        folders = [folder for folder in folders if (folder / MANIFEST).is_file()]
    if not folders:
        raise UserError(
            f"there is no finished dataset below {data}; build one with make dataset, or name it with DATA="
        )
    return folders


def finished_datasets(data: Path) -> list[FinishedDataset]:
    """Return the finished datasets below `data`, or the one at `data`, in the order of the formats.

    Raises:
        UserError: there is none, or the manifest or shapes.txt of one is damaged.
    """
    return [FinishedDataset(folder, *load_info(folder)) for folder in dataset_folders(data)]


def notes_of(dataset: FinishedDataset) -> NoteTable:
    """Return the notes of the first clips of both splits, at most `MOST_CLIPS` clips in all.

    The splits have shares in proportion to their clips. Notes are those of the first planned clips, stored or not, if
    the plan is beside the dataset; else they are found from the control curves of stored clips.

    Raises:
        UserError: the plan or a shard is damaged.
    """
    plan = dataset.plan()
    share = min(1.0, MOST_CLIPS / max(1, dataset.clips))
    counts = {split: int(dataset.info.splits[split].clips * share) for split in SPLITS}
    chunks = _planned_notes(plan, counts) if plan else _notes_from_curves(dataset, counts)
    table = np.concatenate([np.zeros((0, 3), np.int64), *chunks])
    pitch, velocity, samples = table.T
    return NoteTable(pitch, velocity, samples, clips=sum(counts.values()), exact=plan is not None)


def _planned_notes(plan: Plan, counts: dict[str, int]) -> Iterator[Int64]:
    for split, count in counts.items():
        for start in range(0, count, CLIPS_AT_ONCE):
            for clip in plan.clips(split, start, min(start + CLIPS_AT_ONCE, count)):
                onset, offset, pitch, velocity = clip.notes.T.astype(np.int64)
                yield np.stack([pitch, velocity, offset - onset], axis=1)


def _notes_from_curves(dataset: FinishedDataset, counts: dict[str, int]) -> Iterator[Int64]:
    moving = dataset.info.spec.expression is not None  # velocity moves within notes, and rests separate equal notes
    for split, count in counts.items():
        for arrays in islice(dataset.records_of(split), count):
            steps = np.stack([arrays["chroma"] * CHROMA_STEPS, arrays["velocity"] * MAX_VELOCITY]).round().astype(int)
            kinds = np.stack([steps[0], steps[1] > 0]) if moving else steps
            edges = [0, *(np.flatnonzero(np.diff(kinds).any(axis=0)) + 1).tolist(), steps.shape[1]]
            lengths = np.diff(edges) * dataset.info.hop
            table = np.stack([*steps[:, edges[:-1]], lengths], axis=1)
            yield table[table[:, 1] > 0]

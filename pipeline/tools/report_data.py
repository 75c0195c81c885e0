"""Content of the report, read from finished datasets: counts, tables, notes and single clips. T frames, n notes."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

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

NOTES_AT_ONCE = 1000
MOST_CLIPS = 20_000  # whose notes are counted: more would not change a histogram


@dataclass(frozen=True)
class FinishedDataset:
    """A finished dataset folder."""

    folder: Path
    info: DatasetInfo
    features: tuple[Feature, ...]

    @property
    def clips(self) -> int:
        """Clips of both splits."""
        return sum(split.clips for split in self.info.splits.values())

    @property
    def size(self) -> int:
        """Size of all shards in bytes."""
        return sum(shard.bytes for split in self.info.splits.values() for shard in split.shards)

    @cached_property
    def transform(self) -> Representation:
        """The representation that the dataset was built with.

        Raises:
            UserError: the codec at hand is a different one.
        """
        codec = self.info.spec.codec
        made = representation(self.info.format, codec.name, codec.codebooks)
        if self.info.codec_digest and made.digest != self.info.codec_digest:
            raise UserError(
                f"{self.folder} was made with another codec {codec.name} than the one at hand; "
                f"put the weights of digest {self.info.codec_digest[:12]} back"
            )
        return made

    def record(self, split: str, index: int) -> dict[str, NDArray[Any]]:
        """Return the arrays of one clip, and its id as `id`.

        Raises:
            UserError: the shard is missing or damaged.
        """
        for shard in self.info.splits[split].shards:
            if index < shard.clips:
                break
            index -= shard.clips
        else:
            raise IndexError(f"{self.folder} has no such {split} clip")
        path = self.folder / shard.file
        try:
            with open(path, "rb") as file:
                file.seek(index * self.layout.size)
                content = file.read(self.layout.size)
        except OSError as error:
            raise UserError(f"{path} cannot be read ({error.strerror}); run make dataset again") from None
        return self._arrays(content, f"{path} record {index}")

    def records(self, shard: Shard) -> Iterator[dict[str, NDArray[Any]]]:
        """Yield the arrays of a shard's clips in order, with the id as `id`; one record is in memory.

        Raises:
            UserError: the shard is missing or damaged.
        """
        path = self.folder / shard.file
        try:
            with open(path, "rb") as file:
                for number in range(shard.clips):
                    yield self._arrays(file.read(self.layout.size), f"{path} record {number}")
        except OSError as error:
            raise UserError(f"{path} cannot be read ({error.strerror}); run make dataset again") from None

    @cached_property
    def layout(self) -> RecordLayout:
        """Layout of the records."""
        return layout(self.features)

    def _arrays(self, content: bytes, where: str) -> dict[str, NDArray[Any]]:
        record = np.frombuffer(content, np.uint8)
        if len(record) < self.layout.size:
            raise RecordError(f"{where} is cut off; run make dataset again")
        self.layout.check(record, where)
        values = self.layout.values(record)
        arrays = {f.name: values[f.name].view(f.stored_dtype).reshape(f.shape) for f in self.features}
        return {**arrays, "id": values["id"]}

    def table_schema(self) -> Any:
        """Return the Arrow schema of clips.parquet."""
        import pyarrow.parquet as pq

        return pq.read_schema(self.folder / CLIPS_TABLE)

    def sound(self, data: NDArray[Any]) -> NDArray[np.float32]:
        """Decode an array [*shape] to audio, float32 [N]."""
        import torch

        decoded = self.transform.decode(torch.from_numpy(np.array(data, data.dtype.newbyteorder("=")))[None])
        return np.asarray(decoded[0, 0].numpy())

    @cached_property
    def table(self) -> dict[str, list[Any]]:
        """Columns of clips.parquet.

        Raises:
            UserError: missing or damaged.
        """
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            return dict(pq.read_table(self.folder / CLIPS_TABLE).to_pydict())
        except (OSError, pa.ArrowException) as error:
            raise UserError(f"{self.folder / CLIPS_TABLE} cannot be read ({error}); run make dataset again") from None

    @cached_property
    def rejects(self) -> dict[str, Any]:
        """Content of rejects.json: count and examples by reason; only counts where the file is missing."""
        try:
            found = json.loads((self.folder / REJECTS).read_text(encoding="utf-8"))
            return {str(reason): {"count": int(e["count"]), "examples": e["examples"]} for reason, e in found.items()}
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return {reason: {"count": count, "examples": []} for reason, count in self.info.rejects.items()}

    def plan(self) -> Plan | None:
        """Return the plan of the clips if OUT has it."""
        built = built_plan(self.info, self.folder.parent / INDEX_FOLDER)
        return built and built[0]


@dataclass(frozen=True)
class NoteTable:
    """Notes of the counted clips, arrays [n]."""

    pitch: NDArray[np.int64]  # MIDI pitch, or pitch class where `exact` is false
    velocity: NDArray[np.int64]
    samples: NDArray[np.int64]  # length at 24 kHz
    clips: int
    exact: bool  # from the plan; otherwise from the control curves, in which repeated notes merge


def finished_datasets(data: Path) -> list[FinishedDataset]:
    """Return the finished datasets below `data`, or the one at `data`, in the order of the formats.

    Raises:
        UserError: there is none.
    """
    folders = [data] if (data / MANIFEST).is_file() else [data / folder_name(name) for name in FORMATS]
    found = [FinishedDataset(folder, *load_info(folder)) for folder in folders if (folder / MANIFEST).is_file()]
    if not found:
        raise UserError(
            f"there is no finished dataset below {data}; build one with make dataset, or name it with DATA="
        )
    return found


def notes_of(dataset: FinishedDataset) -> NoteTable:
    """Return the notes of a dataset's first clips of both splits."""
    plan = dataset.plan()
    share = min(1.0, MOST_CLIPS / max(1, dataset.clips))
    counts = {split: int(dataset.info.splits[split].clips * share) for split in SPLITS}
    chunks = _planned_notes(plan, counts) if plan else _notes_from_curves(dataset, counts)
    table = np.concatenate([np.zeros((0, 3), np.int64), *chunks])
    pitch, velocity, samples = table.T
    return NoteTable(pitch, velocity, samples, clips=sum(counts.values()), exact=plan is not None)


def _planned_notes(plan: Plan, counts: dict[str, int]) -> Iterator[NDArray[np.int64]]:
    for split, count in counts.items():
        for start in range(0, count, NOTES_AT_ONCE):
            for clip in plan.clips(split, start, min(start + NOTES_AT_ONCE, count)):
                onset, offset, pitch, velocity = clip.notes.T.astype(np.int64)
                yield np.stack([pitch, velocity, offset - onset], axis=1)


def _notes_from_curves(dataset: FinishedDataset, counts: dict[str, int]) -> Iterator[NDArray[np.int64]]:
    moving = dataset.info.spec.expression is not None  # velocity moves within notes, and rests separate equal notes
    for split, count in counts.items():
        for index in range(count):
            arrays = dataset.record(split, index)
            steps = np.stack([arrays["chroma"] * CHROMA_STEPS, arrays["velocity"] * MAX_VELOCITY]).round().astype(int)
            kinds = np.stack([steps[0], steps[1] > 0]) if moving else steps
            edges = [0, *(np.flatnonzero(np.diff(kinds).any(axis=0)) + 1).tolist(), steps.shape[1]]
            lengths = np.diff(edges) * dataset.info.hop
            table = np.stack([*steps[:, edges[:-1]], lengths], axis=1)
            yield table[table[:, 1] > 0]

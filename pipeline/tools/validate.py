"""`make validate`: a check of all files of a dataset, which reports every fault."""

import hashlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from data_specs.arrays import Arrays
from data_specs.codecs import missing_weights
from data_specs.controls import CONTROLS
from data_specs.dataset import CLIPS_TABLE, MANIFEST, Shard, load_info
from data_specs.records import RecordError, RecordLayout
from data_specs.representations import representation
from data_specs.spec import SPLITS
from pipeline.plan.index import INDEX_FOLDER
from pipeline.tools.report_data import FinishedDataset, dataset_folders
from pipeline.tools.validate_notes import DETUNED, SILENT, AudioNotes, check_planned_notes

# Faults that are removed by deleting the file and building it again. All others would occur again.
DAMAGE = ("missing shard", "wrong size", "wrong sha256", "damaged record", "clips.parquet unreadable", "ids differ")
EXAMPLES = 3  # of each fault that are printed
BLOCK = 1 << 24  # bytes that are read at once; a larger record is read whole


@dataclass(frozen=True)
class DatasetCheck(FinishedDataset):
    """The check of one dataset. `run` counts its faults by kind, with a few examples of each.

    Attributes:
        counts: number of faults found, by kind.
        examples: descriptions of the first three faults of each kind.
        ids: ids of the records read, ASCII, in order.
        songs: digests of the source files of the clips, by split.
    """

    counts: Counter[str] = field(default_factory=Counter)
    examples: dict[str, list[str]] = field(default_factory=dict)
    ids: list[bytes] = field(default_factory=list)
    songs: dict[str, set[str]] = field(default_factory=lambda: {split: set() for split in SPLITS})

    def add(self, kind: str, where: str) -> None:
        """Count a fault of a kind. `where` describes it, and is kept for the first three faults of the kind."""
        self.counts[kind] += 1
        if self.counts[kind] <= EXAMPLES:
            self.examples.setdefault(kind, []).append(where)

    @cached_property
    def audio_notes(self) -> AudioNotes | None:
        """Measurement of notes; None unless the format is audio and there are the controls velocity and instruments."""
        measured = self.info.format == "audio" and {"velocity", "instruments"} <= {one.name for one in self.features}
        return AudioNotes(self.info) if measured else None

    @cached_property
    def largest_code(self) -> int:
        """Largest code that the codec of a discrete format can give; 32767 if the codec's weights are missing."""
        codec = self.info.spec.codec
        if missing_weights(codec.name):
            return int(np.iinfo(np.int16).max)
        bins: int = getattr(representation(self.info.format, codec.name, codec.codebooks), "bins", 2**15)
        return bins - 1

    def run(self) -> None:
        """Read all shards and clips.parquet, and count the faults in them and in the notes. Call it once.

        A line is printed if the notes cannot be compared with the SoundFont.
        """
        for split, content in self.info.splits.items():
            before = len(self.ids)
            for shard in content.shards:
                self._check_shard(shard)
            if len(self.ids) - before != content.clips:
                self.add("wrong count", f"{split}: {len(self.ids) - before} read, {content.clips} in {MANIFEST}")
        for clip, count in Counter(self.ids).items():
            if count > 1:
                self.add("duplicate id", clip.decode(errors="replace"))
        self._check_table()
        self._check_notes()

    def _check_shard(self, shard: Shard) -> None:
        path = self.folder / shard.file
        if not path.is_file():
            self.add("missing shard", shard.file)
            return
        if path.stat().st_size != shard.bytes or shard.bytes != shard.clips * self.layout.size:
            self.add("wrong size", shard.file)
            return
        digest = hashlib.sha256()
        for number, record in _records(path, self.layout, digest):
            self._check_record(record, f"{shard.file} record {number}")
        if digest.hexdigest() != shard.sha256:
            self.add("wrong sha256", shard.file)

    def _check_record(self, record: np.ndarray, name: str) -> None:
        try:
            arrays = self.arrays(record, name)
        except RecordError:
            self.add("damaged record", name)
            return
        self.ids.append(arrays["id"].tobytes())
        for kind in self._array_faults(arrays):
            self.add(kind, name)
        if self.audio_notes is not None and (silent := self.audio_notes.silent(arrays)):
            self.add(SILENT, f"{name}: {silent}")

    def _array_faults(self, arrays: Arrays) -> Iterator[str]:
        """Iterate over the kinds of fault in the arrays of one record; a kind may come more than once."""
        data = arrays["data"]
        discrete = data.dtype.kind == "i"
        if not all(np.isfinite(array).all() for array in arrays.values()):
            yield "value not finite"
        if discrete and (data.min() < 0 or data.max() > self.largest_code):
            yield "value out of range"
        if self.info.format == "audio" and np.abs(data).max() > 1:
            yield "value out of range"
        if not discrete and not data.any():
            yield "silent clip"
        if any(CONTROLS[name].is_invalid(arrays) for name in arrays if name in CONTROLS):
            yield "invalid controls"

    def _check_notes(self) -> None:
        if self.info.spec.source.audio:
            return  # recordings have no notes to compare
        ids = {clip.decode(errors="replace") for clip in self.ids}
        found = check_planned_notes(self.info, self.folder.parent / INDEX_FOLDER, ids)
        for kind, where in found or ():
            self.add(kind, where)
        for where in self.audio_notes.detuned() if self.audio_notes is not None else ():
            self.add(DETUNED, where)
        if found is None and self.audio_notes is None:
            print(f"{self.folder}: notes are not compared with the SoundFont, since it or the plan is missing")

    def _check_table(self) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            columns = ["id", "split", "source_digest"]
            table: dict[str, list[Any]] = pq.read_table(self.folder / CLIPS_TABLE, columns=columns).to_pydict()
        except (OSError, pa.ArrowException, KeyError) as error:
            self.add("clips.parquet unreadable", str(error).splitlines()[0])
            return
        if [str(clip).encode() for clip in table["id"]] != self.ids:
            self.add("ids differ", f"{CLIPS_TABLE} and the shards do not list the same clips in the same order")
        for split, digest in zip(table["split"], table["source_digest"], strict=True):
            self.songs.setdefault(str(split), set()).add(str(digest))


def validate(data: Path, formats: tuple[str, ...] | None) -> int:
    """Check the datasets below `data` and print a table. Return 1 if there is any fault, else 0.

    A song with clips in train and in valid is a fault too.

    Args:
        data: the parent folder of datasets, or one of them.
        formats: formats that must be there; None for all that are. Not used if `data` is itself a dataset.

    Raises:
        UserError: a dataset is missing or not finished, or its manifest or shapes.txt is damaged.
    """
    faults, damaged = 0, False
    songs: dict[str, set[str]] = {split: set() for split in SPLITS}
    print(f"{'dataset':22}{'clips':>9}{'shards':>8}{'GB':>8}  faults")
    for folder in dataset_folders(data, formats):
        check = DatasetCheck(folder, *load_info(folder))
        check.run()
        total = check.counts.total()
        size = sum(path.stat().st_size for shard in check.shards if (path := folder / shard.file).is_file())
        print(f"{folder.name:22}{len(check.ids):9}{len(check.shards):8}{size / 1e9:8.2f}  {total or 'none'}")
        for kind, count in sorted(check.counts.items()):
            print(f"  {kind}: {count}, for example {'; '.join(check.examples[kind])}")
        faults += total
        damaged = damaged or any(kind in DAMAGE for kind in check.counts)
        for split, of_split in check.songs.items():
            songs.setdefault(split, set()).update(of_split)
    if damaged:
        print("to repair: delete the damaged files and run the same make dataset again, which builds only those")
    if shared := songs["train"] & songs["valid"]:
        print(f"  leakage: {len(shared)} songs have clips in train and in valid, for example {min(shared)}")
        faults += len(shared)
    return 1 if faults else 0


def _records(path: Path, where: RecordLayout, digest: "hashlib._Hash") -> Iterator[tuple[int, np.ndarray]]:
    """Iterate over (number, uint8 [size]) of each record of the shard at `path`, and update `digest` with its bytes.

    The size of the file must be a multiple of the record size.
    """
    per_block = max(1, BLOCK // where.size)
    number = 0
    with open(path, "rb") as file:
        while block := file.read(per_block * where.size):
            digest.update(block)
            for record in np.frombuffer(block, np.uint8).reshape(-1, where.size):
                yield number, record
                number += 1

"""`make validate`: read a dataset again, all of it, and say what is not as it should be."""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from data_specs.controls import CONTROLS
from data_specs.dataset import CLIPS_TABLE, MANIFEST, DatasetInfo, Feature, folder_name, layout, load_info
from data_specs.errors import UserError
from data_specs.formats import FORMATS
from data_specs.records import RecordError, RecordLayout

# Faults of single files, which another build does not have; the others it would have again.
DAMAGE = ("missing shard", "wrong size", "wrong sha256", "damaged record", "clips.parquet unreadable", "ids differ")
EXAMPLES = 3  # of each fault that are printed
BLOCK = 1 << 24  # bytes read at once, at least a record


@dataclass
class Findings:
    """Faults by kind, with a few examples each."""

    counts: Counter[str] = field(default_factory=Counter)
    examples: dict[str, list[str]] = field(default_factory=dict)

    def add(self, kind: str, where: str) -> None:
        """Count a fault."""
        self.counts[kind] += 1
        if self.counts[kind] <= EXAMPLES:
            self.examples.setdefault(kind, []).append(where)


def validate(data: Path, formats: tuple[str, ...] | None) -> int:
    """Check the datasets below `data`; prints a table and returns 1 when anything is at fault.

    Raises:
        UserError: there is no finished dataset to check.
    """
    folders = _folders(data, formats)
    faults, damaged = 0, False
    songs: dict[str, set[str]] = {"train": set(), "valid": set()}
    print(f"{'dataset':22}{'clips':>9}{'shards':>8}{'GB':>8}  faults")
    for folder in folders:
        info, features = load_info(folder)
        findings = Findings()
        clips, size = _check_dataset(folder, info, features, findings, songs)
        shards = sum(len(split.shards) for split in info.splits.values())
        print(f"{folder.name:22}{clips:9}{shards:8}{size / 1e9:8.2f}  {sum(findings.counts.values()) or 'none'}")
        for kind, count in sorted(findings.counts.items()):
            print(f"  {kind}: {count}, for example {'; '.join(findings.examples[kind])}")
        faults += sum(findings.counts.values())
        damaged = damaged or any(kind in DAMAGE for kind in findings.counts)
    if damaged:
        print("delete the files that are damaged and run the same make dataset again: it makes those alone")
    if shared := songs["train"] & songs["valid"]:
        print(f"  leakage: {len(shared)} songs have clips in train and in valid, for example {min(shared)}")
        faults += len(shared)
    return 1 if faults else 0


def _folders(data: Path, formats: tuple[str, ...] | None) -> list[Path]:
    if (data / MANIFEST).is_file():
        return [data]
    folders = [data / folder_name(name) for name in formats or FORMATS]
    if formats is None:
        folders = [folder for folder in folders if (folder / MANIFEST).is_file()]
    if not folders:
        raise UserError(f"there is no finished dataset below {data}; build one with make dataset, or name its folder")
    return folders


def _check_dataset(
    folder: Path, info: DatasetInfo, features: tuple[Feature, ...], findings: Findings, songs: dict[str, set[str]]
) -> tuple[int, int]:
    ids: list[bytes] = []
    size = 0
    where = layout(features)
    for split, content in info.splits.items():
        before = len(ids)
        for shard in content.shards:
            path = folder / shard.file
            if not path.is_file():
                findings.add("missing shard", shard.file)
                continue
            size += path.stat().st_size
            if path.stat().st_size != shard.bytes or shard.bytes != shard.clips * where.size:
                findings.add("wrong size", shard.file)
                continue
            digest = hashlib.sha256()
            for number, record in _records(path, where, digest):
                _check_record(record, f"{shard.file} record {number}", info, features, where, findings, ids)
            if digest.hexdigest() != shard.sha256:
                findings.add("wrong sha256", shard.file)
        if len(ids) - before != content.clips:
            findings.add("wrong count", f"{split}: {len(ids) - before} read, {content.clips} in {MANIFEST}")
    for clip, count in Counter(ids).items():
        if count > 1:
            findings.add("duplicate id", clip.decode(errors="replace"))
    _check_table(folder, ids, findings, songs)
    return len(ids), size


def _records(path: Path, where: RecordLayout, digest: "hashlib._Hash") -> Iterator[tuple[int, np.ndarray]]:
    """(number, uint8 [size]) of each record, read in blocks of many records."""
    per_block = max(1, BLOCK // where.size)
    number = 0
    with open(path, "rb") as file:
        while block := file.read(per_block * where.size):
            digest.update(block)
            for record in np.frombuffer(block, np.uint8).reshape(-1, where.size):
                yield number, record
                number += 1


def _check_record(
    record: np.ndarray,
    name: str,
    info: DatasetInfo,
    features: tuple[Feature, ...],
    where: RecordLayout,
    findings: Findings,
    ids: list[bytes],
) -> None:
    try:
        where.check(record, name)
    except RecordError:
        findings.add("damaged record", name)
        return
    values = where.values(record)
    ids.append(values["id"].tobytes())
    arrays = {f.name: values[f.name].view(f.stored_dtype).reshape(f.shape) for f in features}
    for kind, faulty in ARRAY_CHECKS.items():
        if faulty(arrays, info):
            findings.add(kind, name)


def _non_finite(arrays: dict[str, np.ndarray], info: DatasetInfo) -> bool:
    return any(not np.isfinite(array).all() for array in arrays.values())


def _out_of_range(arrays: dict[str, np.ndarray], info: DatasetInfo) -> bool:
    data = arrays["data"]
    if data.dtype.kind == "i":
        return bool(data.min() < 0 or data.max() > 1023)
    return info.format == "audio" and bool(np.abs(data).max() > 1)


def _silent(arrays: dict[str, np.ndarray], info: DatasetInfo) -> bool:
    return not arrays["data"].any() and arrays["data"].dtype.kind != "i"


def _controls(arrays: dict[str, np.ndarray], info: DatasetInfo) -> bool:
    return any(control.faulty(arrays) for control in CONTROLS.values())


ARRAY_CHECKS: dict[str, Callable[[dict[str, np.ndarray], DatasetInfo], bool]] = {
    "value not finite": _non_finite,
    "value out of range": _out_of_range,
    "silent clip": _silent,
    "controls at fault": _controls,
}


def _check_table(folder: Path, ids: list[bytes], findings: Findings, songs: dict[str, set[str]]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(folder / CLIPS_TABLE, columns=["id", "split", "source_digest"]).to_pydict()
    except (OSError, pa.ArrowException, KeyError) as error:
        findings.add("clips.parquet unreadable", str(error).splitlines()[0])
        return
    if [str(clip).encode() for clip in table["id"]] != ids:
        findings.add("ids differ", f"{CLIPS_TABLE} and the shards do not list the same clips in the same order")
    for split, digest in zip(table["split"], table["source_digest"], strict=True):
        songs.setdefault(str(split), set()).add(str(digest))

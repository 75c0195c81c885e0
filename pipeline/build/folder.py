"""A dataset folder while it is built: its format key, finished and missing shards, growth and completion.

A finished shard has a receipt in `.build/`. An incomplete dataset has no dataset.json; while a finished one grows, its
manifest is dataset.json.old. Files appear by renaming when they are complete, so a run that is killed at any point can
be resumed.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from data_specs.dataset import MANIFEST, SHAPES, folder_name, shard_name
from data_specs.errors import UserError
from data_specs.io.files import file_sha256, remove_temporaries, value_digest, write_bytes, write_json
from data_specs.io.locks import locked
from data_specs.spec import SPLITS
from data_specs.strict import parse_model
from pipeline.build.shards import Receipt, ShardSubset, ShardTask

KEY = "key.json"
ELSEWHERE = "choose another folder with OUT=, or FORCE=1 to move the old one aside"


class BuildFolder:
    """The folder `PVT-<format>` in `out`, which need not exist. Nothing is made by the constructor."""

    def __init__(self, out: Path, format_name: str) -> None:
        self.path = out / folder_name(format_name)
        self.format = format_name
        self.build = self.path / ".build"
        self.manifest = self.path / MANIFEST
        self.previous_manifest = self.path / f"{MANIFEST}.old"
        self.key_file = self.build / KEY

    @contextmanager
    def lock(self, subset: ShardSubset | None = None) -> Iterator[None]:
        """Hold a lock on the folder within the block, for a build of the whole dataset or of one subset of its shards.

        Without `subset`, no other build can hold the lock at the same time. With it, only builds of other subsets can.
        The folder and its `.build/` are made if they are missing.

        Raises:
            UserError: another process holds the lock, or the folder is not writable.
        """
        with locked(self.build / "lock", str(self.path), shared=subset is not None):
            if subset is None:
                yield
            else:
                with locked(self.build / f"lock-{subset.number}-of-{subset.of}", f"SHARDS={subset} of {self.path}"):
                    yield

    def check_key(self, key: dict[str, Any]) -> None:
        """Raise UserError unless the dataset in the folder, if any, was built with the format key `key`.

        Raises:
            UserError: the format keys differ, and the message names the first difference; the folder holds files but no
                dataset; or the file with the stored key is damaged.
        """
        existing = self.existing_key()
        if existing is None and self.path.is_dir() and any(child.name != ".build" for child in self.path.iterdir()):
            raise UserError(f"{self.path} holds files but no dataset; choose another folder with OUT= or move it away")
        # promise: refused-name-key-nothing
        if existing is None or value_digest(existing) == value_digest(key):
            return
        name, old, new = next(iter(_differences(existing, key)))
        raise UserError(f"{self.path} was built with {name} = {old!r:.60}, this run asks for {new!r:.60}; {ELSEWHERE}")

    def existing_key(self) -> dict[str, Any] | None:
        """Return the format key in dataset.json, else in `.build/key.json`; None if there is neither.

        Raises:
            UserError: the file is damaged.
        """
        for path in (self.manifest, self.key_file):
            if path.is_file():
                value = _read_json(path)
                found = value.get("format_key") if path == self.manifest else value
                if not isinstance(found, dict):
                    raise _damaged(path)
                return found
        return None

    def check_records(self, size: int) -> None:
        """Raise UserError unless every finished shard has records of `size` bytes.

        Raises:
            UserError: a shard has records of another size, or a receipt is damaged.
        """
        # promise: refused-name-key-nothing-3
        if any(receipt.bytes != receipt.clips * size for receipt in self.receipts().values()):
            raise UserError(f"the records in {self.path} have other features than this version writes; {ELSEWHERE}")

    def planned(self) -> dict[str, int]:
        """Return the number of planned clips by split in dataset.json, else in dataset.json.old of a growing dataset.

        Empty without either file.

        Raises:
            UserError: the file is damaged.
        """
        for path in (self.manifest, self.previous_manifest):
            if path.is_file():
                splits = _read_json(path).get("splits")
                try:
                    return {split: int(splits[split]["planned"]) for split in SPLITS}  # type: ignore[index]
                except (KeyError, TypeError, ValueError):
                    raise _damaged(path) from None
        return {}

    def open(self, key: dict[str, Any]) -> None:
        """Begin or resume a build in the folder, which is made if it is missing.

        The format key is written to `.build/key.json` unless that file exists. dataset.json, if there is one, is
        renamed to dataset.json.old until `finish` is called.
        """
        self.build.mkdir(parents=True, exist_ok=True)
        if not self.key_file.is_file():
            write_json(self.key_file, key)
        with suppress(FileNotFoundError):  # not finished before, or renamed by the build of another subset
            self.manifest.replace(self.previous_manifest)

    def receipts(self) -> dict[tuple[str, int], Receipt]:
        """Return the receipts, by (split, number), of the shards whose file exists with the recorded size.

        Raises:
            UserError: a receipt is damaged.
        """
        found = {}
        for path in sorted(self.build.glob("*-[0-9]*.json")):
            receipt = parse_model(Receipt, _read_json(path), str(path))
            file = self._shard_file(receipt.split, receipt.number)
            if file is not None and file.stat().st_size == receipt.bytes:
                found[receipt.split, receipt.number] = receipt
        return found

    def _shard_file(self, split: str, number: int) -> Path | None:
        """Return the path of a shard's file, whatever total its name has after `-of-`; None if there is no file."""
        stem = shard_name(self.format, split, number, 0).partition("-of-")[0]
        matches = sorted(self.path.glob(f"{stem}-of-*.tfrecord"))
        return matches[-1] if matches else None

    def missing(self, tasks: Iterable[ShardTask], machine: str, accept_machine: bool) -> list[ShardTask]:
        """Return those of `tasks` that are not finished.

        A shard is finished if its receipt has the positions of the task and the SHA-256 of its file. The file of a
        finished shard is renamed if the total number of shards in its name is another one.

        Raises:
            UserError: a shard was built on another kind of machine than `machine` and `accept_machine` is not set, or a
                receipt is damaged.
        """
        receipts = self.receipts()
        todo = []
        for task in tasks:
            receipt = receipts.get((task.split, task.number))
            if receipt is None or (receipt.start, receipt.stop) != (task.start, task.stop):
                todo.append(task)
                continue
            # promise: refused-unless-accepted-dataset
            if receipt.machine != machine and not accept_machine:
                raise UserError(
                    f"{self.path} was begun on another kind of machine ({receipt.machine}; this one is {machine}), "
                    f"where arrays differ in their last bits; resume there, or set ACCEPT_DEVICE=1"
                )
            file = self._shard_file(task.split, task.number)
            if file is None or file_sha256(file) != receipt.sha256:
                todo.append(task)
            elif file != self.path / task.file:
                # promise: shard-k-holds-positions-2
                file.replace(self.path / task.file)
        return todo

    def write_receipt(self, receipt: Receipt) -> None:
        """Write the receipt of a finished shard to `.build/<split>-<number>.json`, with five digits of the number."""
        content = receipt.model_dump_json().encode()
        write_bytes(self.build / f"{receipt.split}-{receipt.number:05d}.json", content)

    def finish(self, manifest: dict[str, Any], shapes: str, tasks: Sequence[ShardTask]) -> None:
        """Complete the dataset: write shapes.txt and then dataset.json.

        Before that, files of shards that are not in `tasks` are deleted, in the splits that `tasks` has. After it,
        dataset.json.old and temporary files are deleted.

        Args:
            manifest: content of dataset.json.
            shapes: content of shapes.txt.
            tasks: all shards of the dataset.
        """
        current = {self.path / task.file for task in tasks}
        for split in {task.split for task in tasks}:
            for file in (self.path / split).glob(f"{folder_name(self.format)}-*.tfrecord"):
                if file not in current:
                    file.unlink()
        # promise: file-appears-whole-all-2
        write_bytes(self.path / SHAPES, shapes.encode())
        write_json(self.manifest, manifest)
        self.previous_manifest.unlink(missing_ok=True)
        for folder in (self.path, self.build, *(self.path / split for split in SPLITS)):
            remove_temporaries(folder)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_bytes())
    except ValueError:
        raise _damaged(path) from None
    if not isinstance(value, dict):
        raise _damaged(path)
    return value


def _damaged(path: Path) -> UserError:
    """Return the error for a damaged JSON file.

    Manifest and receipts are written again by the next build; the format key can only come with a new folder.
    """
    if path.name == KEY:
        return UserError(f"{path} is damaged; set FORCE=1 to move the folder aside and build it again")
    return UserError(f"{path} is damaged; delete it and run the same make dataset again")


def _differences(old: Any, new: Any, name: str = "") -> Iterable[tuple[str, Any, Any]]:
    """Iterate over the differences of two JSON values as (dotted key, old value, new value), sorted by key.

    Lists are compared as wholes. The value of a missing key is None.
    """
    if isinstance(old, dict) and isinstance(new, dict):
        for key in sorted(old.keys() | new.keys()):
            yield from _differences(old.get(key), new.get(key), f"{name}.{key}" if name else key)
    elif old != new:
        yield name, old, new

"""Indexing of MIDI files or recordings on workers, one task per batch of files, and the plan made from the index.

`OUT/index/source-<signature>.json` lists the parts of the index for a list of files, so an unchanged source is not read
again.
"""

import hashlib
import json
import os
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distributed import WorkerPlugin, get_worker
from tqdm import tqdm

from data_specs.errors import UserError
from data_specs.io.files import remove_temporaries, write_json
from data_specs.io.locks import locked
from data_specs.spec import Spec
from pipeline.cluster.cluster import Cluster
from pipeline.midi.reader import SandboxedReader
from pipeline.midi.sources import SourceFile, batches, expand_archives, list_files, source_name
from pipeline.plan.index import INDEX_VERSION, index_part
from pipeline.plan.plan import Plan
from pipeline.plan.planning import make_plan
from pipeline.recordings.catalog import list_recordings
from pipeline.recordings.index import index_recordings
from pipeline.recordings.reader import SandboxedRecordingReader
from pipeline.rejects import Rejects

FILES_PER_TASK = 200
RECORDINGS_PER_TASK = 40
PLUGIN = "pvt-index"


@dataclass(frozen=True)
class FileBatch:
    """Files that one task reads. `lost` marks a single file at which every worker died: its task rejects it unread."""

    files: tuple[SourceFile, ...]
    lost: bool = False

    def __str__(self) -> str:
        return f"{len(self.files)} from {self.files[0].name}"


def bisect(task: tuple[Spec, FileBatch, str]) -> list[tuple[Spec, FileBatch, str]]:
    """Return the tasks that replace one whose worker died repeatedly: two, each with half of the files.

    Of an odd number of files, the second task has one more. A task with a single file is replaced by one that rejects
    it.

    Args:
        task: (spec, batch, folder), the arguments of `index_files`.
    """
    spec, batch, folder = task
    half = len(batch.files) // 2
    parts = [FileBatch(batch.files[:half]), FileBatch(batch.files[half:])] if half else [FileBatch(batch.files, True)]
    return [(spec, part, folder) for part in parts]


@dataclass(frozen=True)
class IndexedSource:
    """The paths of the parts of the index for a source, and the files left out before their content was parsed.

    `rejects` holds files that were not listed as input or could not be opened. Rejections of parsed files are in the
    parts.
    """

    parts: tuple[Path, ...]
    rejects: Rejects


def ready_plan(spec: Spec, folder: Path, cluster: Cluster) -> tuple[Plan, Rejects]:
    """Return the plan of `spec`, and the rejects up to it: files, tracks and windows.

    Parts of the index that `folder` lacks are computed on `cluster` and written there, and so is the plan. If several
    processes call this for one folder at the same time, one makes the plan and the others wait for it.

    Raises:
        UserError: the source cannot be read or has no usable file; something is missing and `folder` is read-only; or
            the workers are lost.
    """
    with ExitStack() as stack:
        if not _is_read_only(folder):
            stack.enter_context(locked(folder / "lock", str(folder), wait=True))
            remove_temporaries(folder)
        indexed = _index_source(spec, folder, cluster)
        plan = make_plan(spec, indexed.parts, folder)
    return plan, Rejects.from_json(plan.rejects) + indexed.rejects


def _is_read_only(folder: Path) -> bool:
    """Return whether the folder exists and this process cannot write in it, like that of another user."""
    return folder.is_dir() and not os.access(folder, os.W_OK)


def _index_source(spec: Spec, folder: Path, cluster: Cluster) -> IndexedSource:
    """Return the parts of the index for the spec's source, and the files left out.

    Files are read only if the list of files or the settings have changed; the parts and a record of them are then
    written to `folder`.
    """
    rejects = Rejects()
    of_audio = bool(spec.source.audio)
    files = list_recordings(spec.source.audio, rejects) if of_audio else list_files(spec.source.midi, rejects)
    record = folder / f"source-{_signature(spec, files)[:16]}.json"
    if (recorded := _read_record(record)) is not None:
        return recorded
    if _is_read_only(folder):
        raise UserError(
            f"the index {folder} cannot be written and does not hold {source_name(spec)} with these settings; "
            f"omit INDEX=, or choose another folder with OUT="
        )
    source = files if of_audio else expand_archives(files, spec.source.midi, spec.limits, rejects)
    total = None if any(file.is_archive for file in files) else len(files)
    parts = set()
    with tqdm(total=total, unit="file", desc="index", disable=None) as bar:
        cluster.register(IndexWorker(spec), PLUGIN)
        per_task = RECORDINGS_PER_TASK if of_audio else FILES_PER_TASK
        tasks = ((spec, FileBatch(tuple(files)), str(folder.resolve())) for files in batches(source, per_task))
        for name, count, unread in cluster.run(index_files, tasks, "batch of files", instead=bisect):
            if name:
                parts.add(name)
            rejects.merge(unread)
            bar.update(count)
    write_json(record, {"parts": sorted(parts), "rejects": rejects.to_json()})
    return IndexedSource(tuple(folder / name for name in sorted(parts)), rejects)


def _signature(spec: Spec, files: Sequence[SourceFile]) -> str:
    """Return the SHA-256, hex, of the index settings and of the names, sizes and modification times of the files.

    For a file whose content is in memory, its SHA-256 takes the place of size and time.
    """
    digest = hashlib.sha256(f"{INDEX_VERSION} {spec.clip.model_dump_json()} {spec.limits.model_dump_json()}".encode())
    if spec.source.audio:
        digest.update(spec.recordings.model_dump_json().encode())
    for file in files:
        digest.update(os.fsencode(f"\n{file.name} {_file_state(file)}"))
    return digest.hexdigest()


def _file_state(file: SourceFile) -> str:
    if file.content is not None:
        return hashlib.sha256(file.content).hexdigest()
    try:
        found = os.stat(file.path)
    except OSError:
        return "unreadable"
    return f"{found.st_size} {found.st_mtime_ns}"


def _read_record(path: Path) -> IndexedSource | None:
    """Return what an earlier run wrote to `path`.

    None if the record is missing or damaged, or if a part that it lists is missing.
    """
    try:
        value = json.loads(path.read_bytes())
        parts = tuple(path.with_name(name) for name in value["parts"])
        rejects = Rejects.from_json(value["rejects"])
    except (OSError, ValueError, KeyError, TypeError):
        return None  # the source is read again
    return IndexedSource(parts, rejects) if all(part.is_file() for part in parts) else None


class IndexWorker(WorkerPlugin):
    """Dask plugin of a worker process: holds the readers of MIDI files and recordings.

    The child process of a reader starts when the reader is first used.
    """

    def __init__(self, spec: Spec) -> None:
        self.spec = spec

    def setup(self, worker: Any) -> None:
        """Make the readers. Dask calls this in the worker process."""
        self.midi = SandboxedReader(self.spec.limits)
        self.recordings = SandboxedRecordingReader(self.spec)

    def teardown(self, worker: Any) -> None:
        """End the readers. Dask calls this when the worker ends or the plugin is replaced."""
        self.midi.close()
        self.recordings.close()


def index_files(spec: Spec, batch: FileBatch, folder: str) -> tuple[str, int, Rejects]:
    """Write the part of the index for a batch of files to `folder`. Runs on a worker that has the plugin IndexWorker.

    Returns:
        The file name of the part, empty for a lost batch and if no recording could be opened; the number of files in
            the
        batch; and the files that were lost or could not be opened.
    """
    unread = Rejects()
    if batch.lost:
        unread.add("crash", f"{batch.files[0].name}: every worker that read it died")
        return "", 1, unread
    plugin: IndexWorker = get_worker().plugins[PLUGIN]
    if spec.source.audio:
        recorded = index_recordings(batch.files, spec, Path(folder), plugin.recordings, unread)
        return recorded.path.name if recorded else "", len(batch.files), unread
    part = index_part(batch.files, spec, Path(folder), plugin.midi, unread)
    return part.path.name, len(batch.files), unread

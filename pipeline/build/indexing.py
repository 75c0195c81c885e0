"""From MIDI to the plan on a cluster: one task per few hundred files, then the plan, made once and found again.

`OUT/index/source-<signature>.json` remembers which parts a listing gave, so that a source that has not changed is not
read again.
"""

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distributed import WorkerPlugin, get_worker
from tqdm import tqdm

from data_specs.io.files import locked, remove_temporaries, write_json
from data_specs.spec import Limits, Spec
from pipeline.cluster.cluster import Cluster
from pipeline.midi.reader import SandboxedReader
from pipeline.midi.sources import SourceFile, batches, iter_files
from pipeline.plan.index import INDEX_VERSION, index_part
from pipeline.plan.plan import Plan
from pipeline.plan.planning import make_plan
from pipeline.rejects import Rejected, Rejects

FILES_PER_TASK = 200
PLUGIN = "pvt-index"


@dataclass(frozen=True)
class Batch:
    """Files that one task reads. `lost`: one file alone at which worker after worker died, not to be read again."""

    files: tuple[SourceFile, ...]
    lost: bool = False

    def __str__(self) -> str:
        return f"{len(self.files)} from {self.files[0].name}"


def _divided(task: tuple[Spec, Batch, str]) -> list[tuple[Spec, Batch, str]]:
    """Two halves in place of a batch that lost its worker again and again; a single file is given up."""
    spec, batch, folder = task
    half = len(batch.files) // 2
    parts = (Batch(batch.files[:half]), Batch(batch.files[half:])) if half else (Batch(batch.files, lost=True),)
    return [(spec, part, folder) for part in parts]


@dataclass(frozen=True)
class Indexed:
    """What a source gave: its index parts, and the files passed over before they could be read."""

    parts: tuple[Path, ...]
    rejects: Rejects


def ready_plan(spec: Spec, folder: Path, cluster: Cluster) -> tuple[Plan, Rejects]:
    """The plan of `spec` in the index `folder`, made if it is not there, and all that was left out on the way.

    Several processes may ask at once: one makes the plan, the others wait for it.

    Raises:
        UserError: the source cannot be read or holds no MIDI.
    """
    with locked(folder / "lock", str(folder), wait=True):
        remove_temporaries(folder)
        indexed = _indexed(spec, folder, cluster)
        plan = make_plan(spec, indexed.parts, folder)
    return plan, Rejects.from_json(plan.rejects) + indexed.rejects


def _indexed(spec: Spec, folder: Path, cluster: Cluster) -> Indexed:
    """The index parts of the spec's source, read where they stand."""
    rejects = Rejects()
    files = list(iter_files(spec.source.midi, spec.limits, rejects)) if _is_listable(spec) else None
    memory = folder / f"source-{_signature(spec, files)[:16]}.json"
    if (standing := _recall(memory)) is not None:
        return standing
    source = files if files is not None else iter_files(spec.source.midi, spec.limits, rejects)
    parts = set()
    with tqdm(total=len(files) if files is not None else None, unit="file", desc="index", disable=None) as bar:
        cluster.equip(IndexWorker(spec.limits), PLUGIN)
        tasks = ((spec, Batch(tuple(files)), str(folder.resolve())) for files in batches(source, FILES_PER_TASK))
        for name, count, unread in cluster.run(index_files, tasks, "batch of MIDI files", instead=_divided):
            if name:
                parts.add(name)
            rejects.merge(unread)
            bar.update(count)
    write_json(memory, {"parts": sorted(parts), "rejects": rejects.to_json()})
    return Indexed(tuple(folder / name for name in sorted(parts)), rejects)


def _is_listable(spec: Spec) -> bool:
    """Whether the source's files can be listed without reading them all: not so in an archive."""
    return not Path(spec.source.midi).is_file()


def _signature(spec: Spec, files: Sequence[SourceFile] | None) -> str:
    """Changes whenever the source may have: names, sizes and times of files, or the archive's own."""
    digest = hashlib.sha256(f"{INDEX_VERSION} {spec.clip.model_dump_json()} {spec.limits.model_dump_json()}".encode())
    for file in files if files is not None else [SourceFile("archive", os.path.realpath(spec.source.midi))]:
        digest.update(os.fsencode(f"\n{file.name} {_state(file)}"))
    return digest.hexdigest()


def _state(file: SourceFile) -> str:
    if file.content is not None:
        return hashlib.sha256(file.content).hexdigest()
    try:
        found = os.stat(file.path)
    except OSError:
        return "unreadable"
    return f"{found.st_size} {found.st_mtime_ns}"


def _recall(memory: Path) -> Indexed | None:
    """What an earlier run remembered, if all its parts stand."""
    try:
        value = json.loads(memory.read_bytes())
        parts = tuple(memory.with_name(name) for name in value["parts"])
        rejects = Rejects.from_json(value["rejects"])
    except (OSError, ValueError, KeyError, TypeError):
        return None  # never made, or damaged: reading the source again is always right
    return Indexed(parts, rejects) if all(part.is_file() for part in parts) else None


class IndexWorker(WorkerPlugin):
    """Gives a worker process the sandboxed MIDI reader."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.reader: SandboxedReader | None = None

    def setup(self, worker: Any) -> None:
        """Called by Dask in the worker's process."""
        self.reader = SandboxedReader(self.limits)

    def teardown(self, worker: Any) -> None:
        """Called by Dask when the worker ends or the plugin is replaced."""
        if self.reader is not None:
            self.reader.close()
            self.reader = None


def index_files(spec: Spec, batch: Batch, folder: str) -> tuple[str, int, Rejects]:
    """The task that runs on a worker: write one index part.

    Returns:
        Its name (empty if there is none), the number of files, and those that were not readable.
    """
    unread = Rejects()
    if batch.lost:
        unread.add("crash", f"{batch.files[0].name}: worker after worker died at it")
        return "", 1, unread
    plugin: IndexWorker = get_worker().plugins[PLUGIN]
    assert plugin.reader is not None

    def contents() -> Iterator[tuple[str, bytes]]:
        for file in batch.files:
            try:
                yield file.name, file.read(spec.limits.file_bytes)
            except Rejected as rejected:
                unread.add_rejected(rejected, file.name)

    part = index_part(contents(), spec, Path(folder), plugin.reader)
    return part.path.name, len(batch.files), unread

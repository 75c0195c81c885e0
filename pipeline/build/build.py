"""`make dataset` from request to finished folders: plan, what stands, one task per missing shard, manifest.

The stages are pure functions of other modules; this one only orders them and puts one task per shard on the cluster.
"""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from data_specs.dataset import CLIPS_TABLE, Feature, layout, load_manifest
from data_specs.errors import UserError
from data_specs.formats import FORMATS
from data_specs.io.files import file_sha256, move_aside, value_digest, write_json
from data_specs.representations import Representation, representation
from data_specs.spec import SPLITS, Spec
from pipeline.build import machine
from pipeline.build.folder import BuildFolder
from pipeline.build.indexing import ready_plan
from pipeline.build.manifest import REJECTS, all_rejects, manifest, write_clips
from pipeline.build.shards import Receipt, ShardSubset, ShardTask, features_of, shard_tasks
from pipeline.build.tasks import PLUGIN, ShardWorker, batching_share, build_shard, carefully, shard_machine
from pipeline.cluster.cluster import Cluster
from pipeline.cluster.workers import Workers
from pipeline.plan.plan import Plan
from pipeline.rejects import Rejects
from pipeline.render.soundfont import soundfont_path

MOST_FAULTS = 0.01  # share of clips whose audio may be at fault before the run stops
SECONDS_PER_CLIP_ENCODEC = 0.5  # on one core, for the estimate that is printed before work starts


@dataclass(frozen=True)
class Request:
    """What a user asked for."""

    spec: Spec
    formats: tuple[str, ...]
    out: Path
    index: Path
    workers: Workers
    dry_run: bool
    force: bool
    accept_fewer: bool
    accept_device: bool
    share: ShardSubset | None


@dataclass(frozen=True)
class Job:
    """One format of a request, ready to be built."""

    spec: Spec
    plan: Plan
    rejects: Rejects  # of reading, indexing and planning
    stored: Representation
    soundfont: Path
    key: dict[str, Any]
    folder: BuildFolder
    tasks: tuple[ShardTask, ...]

    @property
    def features(self) -> tuple[Feature, ...]:
        """The features of this format's records."""
        return features_of(self.spec, self.stored)

    @property
    def record_bytes(self) -> int:
        """Bytes of one framed record."""
        return layout(self.features).size

    @property
    def shapes(self) -> str:
        """The text of shapes.txt."""
        return "".join(f"{feature}\n" for feature in self.features)


def build(request: Request) -> int:
    """Build what is asked for and not there yet; returns the exit status.

    Raises:
        UserError: bad input, a folder in the way, too few clips, no space.
    """
    spec = request.spec
    # promise: second-refused-name-first-3
    if request.force and request.share is not None:
        raise UserError(
            "FORCE=1 would move aside what the other shares build; move the old folder away by hand, "
            "then start the shares without FORCE"
        )
    soundfont = soundfont_path(spec.rendering.soundfont)
    stored = {name: representation(name, spec.codec.name, spec.codec.codebooks) for name in request.formats}
    with Cluster(request.workers) as cluster:
        return _build(request, soundfont, stored, cluster)


def _build(request: Request, soundfont: Path, stored: dict[str, Representation], cluster: Cluster) -> int:
    plan, rejects = ready_plan(request.spec, request.index, cluster)
    jobs = [_job(request, plan, rejects, stored[name], soundfont) for name in request.formats]
    _check_enough(request, jobs)
    in_the_way = [job.folder for job in jobs if request.force and job.folder.path.exists()]
    for job in jobs:
        if job.folder not in in_the_way:
            job.folder.check_key(job.key)
            job.folder.check_records(job.record_bytes)
    _check_siblings(request, jobs[0].key)
    with ExitStack() as stack:
        moved = [] if request.dry_run else in_the_way
        for folder in moved:
            if folder.path.is_dir():
                # promise: second-refused-name-first-2
                stack.enter_context(folder.held())  # nobody is at work in it; the lock goes aside with its file
        for folder in moved:
            print(f"{folder.path} is now {move_aside(folder.path)}")
        waiting = [job for job in jobs if job.folder in in_the_way or not _stands(job)]
        _print_plan(plan, rejects, jobs, waiting, cluster.size())
        if request.dry_run or not waiting:
            return 0
        for job in waiting:
            stack.enter_context(job.folder.held(request.share))
        for job in waiting:
            _build_format(job, cluster, request)
    return 0


def _job(request: Request, plan: Plan, rejects: Rejects, stored: Representation, soundfont: Path) -> Job:
    spec, name = request.spec, stored.name
    key = {
        **spec.format_key(name),
        "plan": {**spec.plan_key(), "sources": plan.digest},
        # promise: refused-name-key-nothing-2
        "soundfont": file_sha256(soundfont),
        "transform": stored.digest,
    }
    folder = BuildFolder(request.out, name)
    # promise: written-again-next-run
    standing = {} if request.force else folder.planned()  # a repair keeps what stands, whatever is asked for
    tasks = [
        task
        for split in SPLITS
        for task in shard_tasks(
            name,
            split,
            min(max(spec.clips_of(name, split), standing.get(split, 0)), plan.counts[split]),
            spec.format(name).shard_clips,
        )
    ]
    return Job(spec, plan, rejects, stored, soundfont, key, folder, tuple(tasks))


def _check_siblings(request: Request, key: dict[str, Any]) -> None:
    """All formats of an OUT, finished or not, are made of one plan: an id means the same performance in each."""
    for name in FORMATS:
        if request.force and name in request.formats:
            continue  # about to be moved aside
        folder = BuildFolder(request.out, name)
        standing = folder.standing_key()
        # promise: refused-id-performance-all
        if standing is not None and standing.get("plan") != key["plan"]:
            raise UserError(
                f"{folder.path} was built from another plan (other MIDI, seed or clip settings), and all formats of "
                f"one folder share a plan; choose another folder with OUT=, or build all its formats again with FORCE=1"
            )


def _check_enough(request: Request, jobs: Sequence[Job]) -> None:
    for job in jobs:
        for split in SPLITS:
            asked, found = request.spec.clips_of(job.stored.name, split), job.plan.counts[split]
            # promise: run-stops-counts-unless
            if found < asked and not request.accept_fewer:
                write_json(request.index / REJECTS, job.rejects.to_json())
                _print_rejects(job.rejects)
                raise UserError(
                    f"{asked} {split} clips are asked for, but the melodies of {request.spec.source.midi} give {found} "
                    f"(what was left out stands in {request.index / REJECTS}); "
                    f"ask for fewer with CLIPS=, give more MIDI, or set ACCEPT_FEWER=1 to take what there is"
                )


def _stands(job: Job) -> bool:
    """Whether a finished dataset with at least the clips asked for is there: its tables, every shard with its size.

    What is in the shards is for `make validate` to read.
    """
    folder = job.folder
    # promise: written-again-next-run-2
    # promise: written-again-next-run-3
    if not (folder.manifest.is_file() and (folder.path / CLIPS_TABLE).is_file() and folder.says(job.shapes)):
        return False
    info = load_manifest(folder.path)
    if _asked(job) != {split: min(_asked(job)[split], info.splits[split].planned) for split in SPLITS}:
        return False
    files = [(folder.path / shard.file, shard.bytes) for s in info.splits.values() for shard in s.shards]
    # promise: named-validate-reader-truncated
    return all(file.is_file() and file.stat().st_size == size for file, size in files)


def _asked(job: Job) -> dict[str, int]:
    return {split: sum(t.stop - t.start for t in job.tasks if t.split == split) for split in SPLITS}


def _print_plan(plan: Plan, rejects: Rejects, jobs: Sequence[Job], waiting: Sequence[Job], workers: int) -> None:
    counts = ", ".join(f"{plan.counts[split]} {split}" for split in SPLITS)
    print(f"plan {plan.digest[:12]}: {counts} clips possible; {rejects.total} files, tracks and windows left out")
    for job in jobs:
        asked = _asked(job)
        clips = sum(asked.values())
        size = clips * job.record_bytes
        line = f"  {job.stored.label:24}{asked['train']:>8} train {asked['valid']:>7} valid {len(job.tasks):>6} shards"
        if job not in waiting:
            print(f"{line}  stands in {job.folder.path}: nothing to do{_more_stand(job)}")
            continue
        seconds = SECONDS_PER_CLIP_ENCODEC if "encodec_24khz" in job.stored.label else FORMATS[job.stored.name].seconds
        minutes = clips * seconds / workers / 60
        print(f"{line} {size / 1e9:8.2f} GB {len(job.tasks) + 4:>6} files, about {max(minutes, 0.1):.1f} min")


def _more_stand(job: Job) -> str:
    standing = job.folder.planned()
    more = any(standing[split] > job.spec.clips_of(job.stored.name, split) for split in SPLITS)
    return f" (it has {standing['train']}:{standing['valid']}, which is kept)" if more else ""


def _machine_kind(cluster: Cluster, gpu: bool, accept: bool) -> str:
    """The kind of machine of all workers."""
    kinds = sorted(set(cluster.everywhere(shard_machine, gpu, gpu=gpu)))
    if len(kinds) > 1 and not accept:
        raise UserError(
            f"the workers are of several kinds ({'; '.join(kinds)}), whose arrays differ in their last bits; "
            f"use one kind, or set ACCEPT_DEVICE=1"
        )
    return kinds[0]


def _build_format(job: Job, cluster: Cluster, request: Request) -> None:
    """Build the missing shards of one format and finish its folder."""
    folder = job.folder
    folder.open(job.key)
    gpu = FORMATS[job.stored.name].codec and cluster.has_gpu()
    kind = _machine_kind(cluster, gpu, request.accept_device)
    mine = [task for task in job.tasks if request.share is None or request.share.holds(task)]
    todo = folder.missing(mine, kind, request.accept_device)
    plugin = ShardWorker(job.spec, job.stored.name, job.plan.path.resolve(), job.soundfont.resolve(), gpu)
    cluster.equip(plugin, PLUGIN, gpu)
    total, missing = (sum(task.stop - task.start for task in tasks) for tasks in (mine, todo))
    with tqdm(total=total, initial=total - missing, unit="clip", desc=job.stored.label, disable=None) as bar:
        rejected = 0
        tasks = [(task, folder.path.resolve()) for task in todo]
        for receipt in cluster.run(build_shard, tasks, "shard", gpu=gpu, instead=carefully):
            _check_machine(receipt, kind, request.accept_device)
            folder.write_receipt(receipt)
            rejected += len(receipt.faults)
            bar.set_postfix(rejects=rejected, refresh=False)
            bar.update(receipt.stop - receipt.start)
    if request.share is not None:
        print(
            f"{folder.path}: share {request.share} stands ({len(mine)} shards); the same command without SHARDS ends it"
        )
        return
    receipts = folder.receipts()
    wanted = {(task.split, task.number) for task in job.tasks}
    first = [(task, folder.path) for task in job.tasks[:1]]
    batching = next(cluster.run(batching_share, first, "chunk", gpu=gpu, instead=carefully), 0.0)
    _finish(job, {key: receipt for key, receipt in receipts.items() if key in wanted}, batching, request)


def _check_machine(receipt: Receipt, kind: str, accept: bool) -> None:
    """A worker that came later may be of another kind than those that were asked at the start."""
    # promise: refused-unless-accepted-dataset-2
    if receipt.machine != kind and not accept:
        raise UserError(
            f"a worker of another kind has joined ({receipt.machine}; the others are {kind}), whose arrays differ in "
            f"their last bits; keep to one kind and repeat the command, or set ACCEPT_DEVICE=1"
        )


def _finish(job: Job, receipts: dict[tuple[str, int], Receipt], batching: float, request: Request) -> None:
    folder, plan = job.folder, job.plan
    rejects = all_rejects(job.rejects, receipts)
    write_json(folder.path / REJECTS, rejects.to_json())
    faults = sum(len(receipt.faults) for receipt in receipts.values())
    asked = sum(_asked(job).values())
    # promise: run-stops-counts-unless-2
    if faults > MOST_FAULTS * asked and not request.accept_fewer:
        _print_rejects(rejects)
        raise UserError(
            f"{faults} of {asked} clips have faulty audio, see {folder.path / REJECTS}; check the SoundFont and the "
            f"gain, or set ACCEPT_FEWER=1 to go without them"
        )
    write_clips(folder.path / CLIPS_TABLE, plan, job.tasks, receipts)
    content = manifest(
        job.spec,
        job.stored,
        plan,
        job.key,
        value_digest(job.key),
        machine.versions(),
        licences(job),
        job.tasks,
        receipts,
        rejects,
        batching,
    )
    folder.finish(content, job.shapes, job.tasks)
    clips = {split: content["splits"][split]["clips"] for split in SPLITS}
    print(f"{folder.path}: {clips['train']} train and {clips['valid']} valid clips")
    _print_rejects(rejects)


def _print_rejects(rejects: Rejects) -> None:
    for reason, count in sorted(rejects.counts.items()):
        print(f"  left out: {count:>8} {reason}")


def licences(job: Job) -> dict[str, str]:
    """What the parts of a dataset are licensed under, as far as this project knows."""
    known = {"melodies": "see the source" if job.spec.source.midi != "tunes" else "public domain"}
    known["soundfont"] = "see the file's own licence"
    if licence := job.stored.licence:
        known["codec"] = licence
    return known

"""`make dataset`: from a request to finished folders, by way of plan, jobs, shards on workers and manifest."""

from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path

from tqdm import tqdm

from data_specs.errors import UserError
from data_specs.formats import FORMATS
from data_specs.io.files import move_aside, write_json
from data_specs.representations import representation
from data_specs.spec import SPLITS, ClipCounts
from pipeline.build.folder import BuildFolder
from pipeline.build.indexing import ready_plan
from pipeline.build.job import Job, Request, make_jobs
from pipeline.build.manifest import REJECTS, all_rejects, manifest, write_clips
from pipeline.build.presets import playable_notes
from pipeline.build.shards import Receipt, Receipts, joint_tasks
from pipeline.build.tasks import PLUGIN, ShardWorker, build_shards, retry_isolated, shard_machine
from pipeline.cluster.cluster import Cluster
from pipeline.midi.sources import source_exists, source_name
from pipeline.rejects import Rejects
from pipeline.render.soundfont import soundfont_path

MOST_FAULTS = 0.01  # share of clips with faulty audio above which the run stops


def build(request: Request) -> int:
    """Build what is missing of the requested datasets and return the exit status, 0.

    Datasets are written below `request.out`, and the index and the plan to `request.index`. With `force`, existing
    folders of the requested formats are renamed first. With `dry_run`, no dataset is written or renamed, but index and
    plan are written if the source exists.

    Raises:
        UserError: invalid input, FORCE=1 with SHARDS=, another dataset in a folder, a folder in use by another build,
            too few clips, too many clips with faulty audio, workers of several kinds, or loss of the workers.
    """
    # promise: second-refused-name-first-3
    if request.force and request.subset is not None:
        raise UserError(
            "FORCE=1 must not be given with SHARDS=: it would move aside what other runs build; move the old folder "
            "away yourself, then start all runs without FORCE"
        )
    recorded = bool(request.spec.source.audio)
    if request.dry_run and not recorded and not source_exists(request.spec.source.midi):
        _print_estimate(request)
        return 0
    soundfont = None if recorded else soundfont_path(request.spec.rendering.soundfont)
    codec = request.spec.codec
    formats = [representation(name, codec.name, codec.codebooks) for name in request.formats]
    playable = None if soundfont is None else playable_notes(request.spec, soundfont, request.index)
    with Cluster(request.workers) as cluster, ExitStack() as locks:
        plan, rejects = ready_plan(request.spec, request.index, cluster)
        plan = replace(plan, playable=playable)
        if request.spec.clips is None:
            request = replace(request, spec=request.spec.with_clips(ClipCounts(**plan.counts)))
        jobs = make_jobs(request, plan, rejects, formats, soundfont)
        _check_enough(request, jobs)
        replaced = [job.folder for job in jobs if request.force and job.folder.path.exists()]
        for job in jobs:
            if job.folder not in replaced:
                job.folder.check_key(job.key)
                job.folder.check_records(job.record_bytes)
        _check_siblings(request, jobs[0])
        if not request.dry_run:
            _move_aside(replaced, locks)
        todo = [job for job in jobs if job.folder in replaced or not job.is_complete]
        _print_plan(jobs, todo, cluster.size())
        if request.dry_run or not todo:
            return 0
        for job in todo:
            locks.enter_context(job.folder.lock(request.subset))
        for group in joint_jobs(todo):
            _build_shards(group, cluster, request, soundfont and soundfont.resolve())
        _print_rejects(jobs[0].rejects)
    return 0


def _print_estimate(request: Request) -> None:
    """Print the numbers of clips and shards that the spec asks for. No plan is made: the MIDI files are missing."""
    spec = request.spec
    print(f"MIDI={spec.source.midi} does not exist, so no plan is made; `make lakh` downloads the Lakh MIDI dataset")
    for name in request.formats:
        clips = {split: spec.clips_of(name, split) for split in SPLITS}
        shards = sum(-(-count // spec.format(name).shard_clips) for count in clips.values())
        print(f"  {name:24}{clips['train']:>8} train {clips['valid']:>7} valid {shards:>6} shards")


def _check_enough(request: Request, jobs: Sequence[Job]) -> None:
    for job in jobs:
        for split in SPLITS:
            asked, found = request.spec.clips_of(job.representation.name, split), job.plan.counts[split]
            # promise: run-stops-counts-unless
            if found < asked and not request.accept_fewer:
                with suppress(UserError):  # a read-only index
                    write_json(request.index / REJECTS, job.rejects.to_json())
                _print_rejects(job.rejects)
                raise UserError(
                    f"{asked} {split} clips are asked for, but {source_name(request.spec)} gives {found} "
                    f"(what was left out is listed in {request.index / REJECTS}); "
                    f"ask for fewer with CLIPS=, give more files, or set ACCEPT_FEWER=1 to take what there is"
                )


def _check_siblings(request: Request, job: Job) -> None:
    """Raise UserError unless all datasets in OUT, finished or not, have the plan of `job`.

    With one plan, an id means the same performance in each format. Requested formats are not compared if `force` is
    set, because their folders will be moved aside.
    """
    for name in FORMATS:
        if request.force and name in request.formats:
            continue  # about to be moved aside
        folder = BuildFolder(request.out, name)
        existing = folder.existing_key()
        # promise: refused-id-performance-all
        if existing is not None and existing.get("plan") != job.key["plan"]:
            raise UserError(
                f"{folder.path} was built from another plan (other MIDI, seed or clip settings), and all formats of "
                f"one folder share a plan; choose another folder with OUT=, or build all its formats again with FORCE=1"
            )


def _move_aside(folders: Sequence[BuildFolder], locks: ExitStack) -> None:
    for folder in folders:
        if folder.path.is_dir():
            # promise: second-refused-name-first-2
            locks.enter_context(folder.lock())  # fails if another build works in it; the lock file is moved too
    for folder in folders:
        print(f"{folder.path} is now {move_aside(folder.path)}")


def _print_plan(jobs: Sequence[Job], todo: Sequence[Job], workers: int) -> None:
    plan = jobs[0].plan
    counts = ", ".join(f"{plan.counts[split]} {split}" for split in SPLITS)
    left_out = f"{jobs[0].rejects.total} files, tracks and windows left out"
    print(f"plan {plan.digest[:12]}: {counts} clips possible; {left_out}")
    for job in jobs:
        clips = sum(job.clips.values())
        line = (
            f"  {job.representation.label:24}{job.clips['train']:>8} train {job.clips['valid']:>7} valid "
            f"{len(job.tasks):>6} shards"
        )
        if job not in todo:
            kept = " (more clips than asked for; all are kept)" if job.keeps_more else ""
            print(f"{line}  complete in {job.folder.path}: nothing to build{kept}")
            continue
        minutes = max(clips * job.representation.seconds_per_clip / workers / 60, 0.1)
        size = clips * job.record_bytes / 1e9
        print(f"{line} {size:8.2f} GB {len(job.tasks) + 4:>6} files, about {minutes:.1f} min")


def joint_jobs(jobs: Sequence[Job]) -> list[list[Job]]:
    """Group jobs whose shards are built together.

    A job joins the group whose first job has the format from which its own is derived, if the chunks of both coincide;
    any other job starts a group. A job must come after that of its source format.
    """
    groups: list[list[Job]] = []
    for job in jobs:
        for group in groups:
            if group[0].representation.name == job.representation.source and _aligned(group[0], job):
                group.append(job)
                break
        else:
            groups.append([job])
    return groups


def _aligned(one: Job, other: Job) -> bool:
    """Return whether the chunks of two formats start at the same positions of the plan and have the same size."""
    storage = [job.spec.format(job.representation.name) for job in (one, other)]
    small, large = sorted(storage, key=lambda entry: entry.shard_clips)
    chunk = small.chunk_clips
    return chunk == large.chunk_clips and not small.shard_clips % chunk and not large.shard_clips % small.shard_clips


def _build_shards(jobs: Sequence[Job], cluster: Cluster, request: Request, soundfont: Path | None) -> None:
    """Build the missing shards of a group of formats; then finish their folders, unless the request is for a subset."""
    first = jobs[0]
    formats = {job.representation.name: job for job in jobs}
    for job in jobs:
        job.folder.open(job.key)
    gpu = first.representation.prefers_gpu and cluster.has_gpu()
    kind = _machine_kind(cluster, gpu, request.accept_device)
    mine = [task for job in jobs for task in job.tasks if request.subset is None or request.subset.holds(task)]
    todo = [
        task
        for job in jobs
        for task in job.folder.missing(
            [task for task in mine if task.format == job.representation.name], kind, request.accept_device
        )
    ]
    plan = replace(first.plan, path=first.plan.path.resolve())
    plugin = ShardWorker(first.spec, tuple(formats), plan, soundfont, gpu)
    cluster.register(plugin, PLUGIN, gpu)
    span = max(first.spec.format(name).shard_clips for name in formats)
    out = request.out.resolve()
    total, missing = (sum(task.clips for task in tasks) for tasks in (mine, todo))
    label = ", ".join(job.representation.label for job in jobs)
    with tqdm(total=total, initial=total - missing, unit="clip", desc=label, disable=None) as bar:
        rejected = 0
        tasks = [(joint, out) for joint in joint_tasks(todo, span)]
        for finished in cluster.run(build_shards, tasks, "shard", gpu=gpu, instead=retry_isolated):
            for task, receipt in finished:
                _check_machine(receipt, kind, request.accept_device)
                formats[task.format].folder.write_receipt(receipt)
                rejected += len(receipt.faults)
                bar.set_postfix(rejects=rejected, refresh=False)
                bar.update(task.clips)
    for job in jobs:
        _finish(job, request)


def _machine_kind(cluster: Cluster, gpu: bool, accept: bool) -> str:
    """Return the kind of machine of the workers, the first in alphabetical order if several are accepted.

    Args:
        cluster: the workers.
        gpu: whether only workers with a GPU count.
        accept: whether several kinds are accepted.

    Raises:
        UserError: there are several kinds and `accept` is not set, or there have been no workers for too long.
    """
    kinds = sorted(set(cluster.run_on_all(shard_machine, gpu, gpu=gpu)))
    if len(kinds) > 1 and not accept:
        raise UserError(
            f"workers must be machines of one kind, got {'; '.join(kinds)}, whose arrays differ in their last bits; "
            f"use one kind, or set ACCEPT_DEVICE=1"
        )
    return kinds[0]


def _check_machine(receipt: Receipt, kind: str, accept: bool) -> None:
    """Raise UserError if the worker that wrote a shard is of another kind than `kind` and `accept` is not set.

    It may have joined after `_machine_kind` was called.
    """
    # promise: refused-unless-accepted-dataset-2
    if receipt.machine != kind and not accept:
        raise UserError(
            f"a worker of another kind has joined ({receipt.machine}; the others are {kind}), whose arrays differ in "
            f"their last bits; use one kind and run the same command again, or set ACCEPT_DEVICE=1"
        )


def _finish(job: Job, request: Request) -> None:
    folder = job.folder
    if request.subset is not None:
        count = sum(map(request.subset.holds, job.tasks))
        print(f"{folder.path}: SHARDS={request.subset} done ({count} shards); run without SHARDS to finalize")
        return
    built = folder.receipts()
    receipts: Receipts = {(task.split, task.number): built[task.split, task.number] for task in job.tasks}
    rejects = all_rejects(job, receipts)
    write_json(folder.path / REJECTS, rejects.to_json())
    faults, asked = rejects.total - job.rejects.total, sum(job.clips.values())
    # promise: run-stops-counts-unless-2
    if faults > MOST_FAULTS * asked and not request.accept_fewer:
        _print_rejects(rejects)
        raise UserError(
            f"{faults} of {asked} clips have faulty audio, see {folder.path / REJECTS}; check the SoundFont and the "
            f"gain, or set ACCEPT_FEWER=1 to leave them out"
        )
    write_clips(job, receipts)
    content = manifest(job, receipts, rejects)
    folder.finish(content, job.shapes, job.tasks)
    clips = ", ".join(f"{content['splits'][split]['clips']} {split}" for split in SPLITS)
    rejected = f", {faults} rejected for their audio" if faults else ""
    print(f"{folder.path}: {clips} clips{rejected}")


def _print_rejects(rejects: Rejects) -> None:
    for reason, count in sorted(rejects.counts.items()):
        print(f"  left out: {count:>8} {reason}")

"""Stage 1: build as many clips as the time allows in all four formats, and measure the rates.

A probe build measures seconds and bytes per clip in each format. The full build grows it to the size that time, disk
and melodies allow. Training formats have the same clips; PVT-audio is only the reference, so it may have fewer.
"""

import itertools
import json
import os
import shutil
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.node.work import Facts, TimeBudget
from data_specs.dataset import MANIFEST, folder_name
from data_specs.errors import UserError
from data_specs.formats import FORMATS
from data_specs.io.locks import locked
from data_specs.spec import SPLITS, ClipCounts

VALID_SHARE = 8  # train clips per valid clip
LEAST_VALID = 16
PROBE_CLIPS = 100  # train clips for each core: one shard each
MOST_AUDIO = 4000  # train clips of the reference
DISK_SHARE = 0.6  # of the free space; runs and samples need the rest
TIME_SHARE = 0.85  # of the time left after the probe, since a busy machine may slow down


@dataclass(frozen=True)
class RenderOptions:
    """NodeOptions of `python -m pipeline dataset`, and an upper limit of clips."""

    spec: str = "sample"
    midi: str | None = None
    most: ClipCounts | None = None

    def options(self) -> list[str]:
        """Command-line options."""
        return ["--spec", self.spec, *(["--midi", self.midi] if self.midi else [])]

    def key(self) -> Facts:
        """Inputs that decide which clips are built."""
        return {"spec": self.spec, "midi": self.midi}


def ready(folder: Path) -> Facts:
    """Number of clips in existing datasets.

    Raises:
        UserError: one of the four is missing.
    """
    lacking = [folder_name(name) for name in FORMATS if not (folder / folder_name(name) / MANIFEST).is_file()]
    if lacking:
        raise UserError(f"--data {folder} lacks {', '.join(lacking)}; name the folder that holds all four datasets")
    return {name: {"clips": sum(_counts(folder / folder_name(name)).values())} for name in FORMATS}


def build(budget: TimeBudget, source: RenderOptions, seconds: float) -> Facts:
    """Build PVT-* below WORK/data; `seconds` is the limit of the stage, from now.

    Returns:
        By format: `clips` and `bytes` in total, and `seconds`, `built` and `clips_per_second` of the last build.
    """
    end = budget.seconds_left() - seconds  # time left when the stage ends
    small = dict.fromkeys(FORMATS, probe_size(source))
    probe = budget.run_step("clips-probe", source.key(), lambda: {"formats": _dataset(budget, source, small)})[
        "formats"
    ]

    def choose_size() -> Facts:
        data = budget.work / "data"
        free = shutil.disk_usage(data).free
        size = full_size(probe, small["cqt"], source.most, budget.seconds_left() - end, free, _possible(data))
        return {name: clips.model_dump() for name, clips in size.items()}

    most = source.most and source.most.model_dump()
    chosen = budget.run_step(
        "clips-size", {**source.key(), "most": most}, choose_size
    )  # decided once, kept when resumed
    size = {name: ClipCounts(**chosen[name]) for name in FORMATS}

    def grow() -> Facts:
        found = _dataset(budget, source, size)
        # A dataset that was large enough keeps the figures of the probe.
        return {"formats": {name: facts if facts["built"] else probe[name] for name, facts in found.items()}}

    found: Facts = budget.run_step("clips", {**source.key(), **chosen}, grow)["formats"]
    return {name: found[name] for name in FORMATS}


def probe_size(source: RenderOptions) -> ClipCounts:
    """Clips of the probe build: one shard for each core, within the limit."""
    return _within(PROBE_CLIPS * len(os.sched_getaffinity(0)), source.most)


def full_size(
    probe: Mapping[str, Facts],
    existing: ClipCounts,
    most: ClipCounts | None,
    seconds: float,
    free: int,
    possible: ClipCounts,
) -> dict[str, ClipCounts]:
    """Clips of the full build by format: as many as time, disk and melodies allow, at least those that exist.

    Args:
        probe: `clips`, `bytes`, `built` and `seconds` of each format in the probe build.
        existing: clips of the probe build.
        most: limit given by the user.
        seconds: time left for the stage.
        free: bytes on the disk.
        possible: clips that the melodies provide.
    """

    def sizes(train: int) -> dict[str, ClipCounts]:
        audio = min(train, max(MOST_AUDIO, existing.train))
        return {name: _within(audio if name == "audio" else train, most, possible) for name in FORMATS}

    def too_much(train: int) -> bool:
        time = room = 0.0
        for name, clips in sizes(train).items():
            more = clips.train + clips.valid - existing.train - existing.valid
            time += more * seconds_a_clip(name, probe[name])
            room += more * probe[name]["bytes"] / probe[name]["clips"]
        return time > TIME_SHARE * max(0.0, seconds) or room > DISK_SHARE * free

    first_too_large = bisect_left(range(existing.train + 1, possible.train + 1), True, key=too_much)
    return sizes(existing.train + first_too_large)


def seconds_a_clip(name: str, facts: Facts) -> float:
    """Measured seconds, or the pipeline's estimate where a call was killed between a build and its record."""
    if facts["built"] and "seconds" in facts:
        return float(facts["seconds"] / facts["built"])
    return FORMATS[name].seconds / len(os.sched_getaffinity(0))


def _within(train: int, *bounds: ClipCounts | None) -> ClipCounts:
    valid = max(LEAST_VALID, train // VALID_SHARE)
    for bound in bounds:
        if bound is not None:
            train, valid = min(train, bound.train), min(valid, bound.valid)
    return ClipCounts(train=train, valid=valid)


def _dataset(budget: TimeBudget, source: RenderOptions, size: Mapping[str, ClipCounts]) -> Facts:
    """Build all formats, those of one size with one command; returns figures by format."""
    found: Facts = {}
    for clips in dict.fromkeys((size[name].train, size[name].valid) for name in FORMATS):
        formats = [name for name in FORMATS if (size[name].train, size[name].valid) == clips]
        found |= _command(budget, source, formats, f"{clips[0]}:{clips[1]}")
    return found


def _command(budget: TimeBudget, source: RenderOptions, formats: Sequence[str], clips: str) -> Facts:
    """Run `python -m pipeline dataset` once."""
    data = budget.work / "data"
    folders = {name: data / folder_name(name) for name in formats}
    for folder in folders.values():
        with locked(folder / ".build" / "lock", str(folder), wait=True):  # held by a call that was killed just before
            pass
    before = {name: _finished_clips(data, name) for name in formats}
    options = [*source.options(), "--format", ",".join(formats), "--clips", clips, "--out", str(data)]
    seen = budget.python("clips", ["-m", "pipeline", "dataset", *options])
    found = {}
    for name, folder in folders.items():
        held, built = sum(_counts(folder).values()), _finished_clips(data, name) - before[name]
        facts: Facts = {"clips": held, "built": built, "bytes": _bytes(folder)}
        if (took := finished_after(seen, folder)) is not None:
            facts |= {"seconds": round(took, 3), "clips_per_second": round(built / took, 2)}
        found[name] = facts
    return found


def finished_after(seen: list[tuple[float, str]], folder: Path) -> float | None:
    """Seconds between the line that reports a finished dataset and the line before it, at which its build began."""
    for (before, _), (time, line) in itertools.pairwise(seen):
        if line.startswith(f"{folder}: "):
            return max(time - before, 1e-3)
    return None


def _finished_clips(data: Path, name: str) -> int:
    """ClipCounts in finished shards."""
    from pipeline.build.folder import BuildFolder

    return sum(receipt.stop - receipt.start for receipt in BuildFolder(data, name).receipts().values())


def _counts(folder: Path) -> dict[str, int]:
    splits = json.loads((folder / MANIFEST).read_bytes())["splits"]
    return {split: splits[split]["clips"] for split in SPLITS}


def _bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.glob("*/*.tfrecord"))


def _possible(data: Path) -> ClipCounts:
    """ClipCounts that the melodies provide, from the newest plan."""
    newest = max((data / "index").glob("plan-*/plan.json"), key=lambda path: path.stat().st_mtime)
    return ClipCounts(**json.loads(newest.read_bytes())["clips"])

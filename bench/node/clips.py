"""Stage 1: as many clips as the time allows, in all four formats, and how fast they came.

Two builds: a small one that measures seconds and bytes of a clip in each format, then one of the size that these
figures, the time, the disk and the melodies allow. The second grows the first. Training formats have the same clips;
PVT-audio is only what is judged against, so it may have fewer.
"""

import itertools
import json
import os
import shutil
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.node.work import Call, Facts
from data_specs.dataset import MANIFEST, folder_name
from data_specs.errors import UserError
from data_specs.formats import FORMATS
from data_specs.io.files import locked
from data_specs.spec import SPLITS, Clips

VALID_SHARE = 8  # train clips to a valid clip
LEAST_VALID = 16
PROBE_CLIPS = 100  # of train, for each core: a shard for each
MOST_AUDIO = 4000  # train clips that are judged against
DISK_SHARE = 0.6  # of what is free; runs and samples need some
TIME_SHARE = 0.85  # of what is left after the small build, since a busy machine may get slower


@dataclass(frozen=True)
class Source:
    """What is rendered: options of `python -m pipeline dataset`, and the largest number of clips."""

    spec: str = "sample"
    midi: str | None = None
    most: Clips | None = None

    def options(self) -> list[str]:
        """As the command takes them."""
        return ["--spec", self.spec, *(["--midi", self.midi] if self.midi else [])]

    def key(self) -> Facts:
        """What makes other clips."""
        return {"spec": self.spec, "midi": self.midi}


def ready(folder: Path) -> Facts:
    """Numbers of clips in datasets that stand already.

    Raises:
        UserError: one of the four is not there.
    """
    lacking = [folder_name(name) for name in FORMATS if not (folder / folder_name(name) / MANIFEST).is_file()]
    if lacking:
        raise UserError(f"--data {folder} lacks {', '.join(lacking)}; name the folder that holds all four datasets")
    return {name: {"clips": sum(_counts(folder / folder_name(name)).values())} for name in FORMATS}


def build(call: Call, source: Source, seconds: float) -> Facts:
    """Build PVT-* below WORK/data; `seconds` is what the stage may take, from now.

    Returns:
        By format: `clips` and `bytes` there are, and `seconds`, `built` and `clips_per_second` of the last build.
    """
    end = call.left() - seconds  # of the call's time, when the stage's is up
    small = dict.fromkeys(FORMATS, first_size(source))
    probe = call.once("clips-probe", source.key(), lambda: {"formats": _dataset(call, source, small)})["formats"]

    def reckon() -> Facts:
        data = call.work / "data"
        free = shutil.disk_usage(data).free
        size = second_size(probe, small["cqt"], source.most, call.left() - end, free, _possible(data))
        return {name: clips.model_dump() for name, clips in size.items()}

    most = source.most and source.most.model_dump()
    reckoned = call.once("clips-size", {**source.key(), "most": most}, reckon)  # once: a call that goes on keeps to it
    size = {name: Clips(**reckoned[name]) for name in FORMATS}

    def grow() -> Facts:
        found = _dataset(call, source, size)
        # A dataset that was large enough already keeps its first figures.
        return {"formats": {name: facts if facts["built"] else probe[name] for name, facts in found.items()}}

    found: Facts = call.once("clips", {**source.key(), **reckoned}, grow)["formats"]
    return {name: found[name] for name in FORMATS}


def first_size(source: Source) -> Clips:
    """Clips of the small build: a shard for each core, within what is asked for."""
    return _within(PROBE_CLIPS * len(os.sched_getaffinity(0)), source.most)


def second_size(
    probe: Mapping[str, Facts], standing: Clips, most: Clips | None, seconds: float, free: int, possible: Clips
) -> dict[str, Clips]:
    """Clips of the large build by format: as many as time, disk and melodies allow, never fewer than there are.

    Args:
        probe: `clips`, `bytes`, `built` and `seconds` of each format's small build.
        standing: clips of the small build.
        most: what the user allows.
        seconds: what is left for the stage.
        free: bytes on the disk.
        possible: what the melodies give.
    """

    def sizes(train: int) -> dict[str, Clips]:
        audio = min(train, max(MOST_AUDIO, standing.train))
        return {name: _within(audio if name == "audio" else train, most, possible) for name in FORMATS}

    def too_much(train: int) -> bool:
        time = room = 0.0
        for name, clips in sizes(train).items():
            more = clips.train + clips.valid - standing.train - standing.valid
            time += more * seconds_a_clip(name, probe[name])
            room += more * probe[name]["bytes"] / probe[name]["clips"]
        return time > TIME_SHARE * max(0.0, seconds) or room > DISK_SHARE * free

    first_too_large = bisect_left(range(standing.train + 1, possible.train + 1), True, key=too_much)
    return sizes(standing.train + first_too_large)


def seconds_a_clip(name: str, facts: Facts) -> float:
    """As measured, or as the pipeline reckons where a call was killed between a build and its mark."""
    if facts["built"] and "seconds" in facts:
        return float(facts["seconds"] / facts["built"])
    return FORMATS[name].seconds / len(os.sched_getaffinity(0))


def _within(train: int, *bounds: Clips | None) -> Clips:
    valid = max(LEAST_VALID, train // VALID_SHARE)
    for bound in bounds:
        if bound is not None:
            train, valid = min(train, bound.train), min(valid, bound.valid)
    return Clips(train=train, valid=valid)


def _dataset(call: Call, source: Source, size: Mapping[str, Clips]) -> Facts:
    """Build formats, those of one size by one command; facts of each."""
    found: Facts = {}
    for clips in dict.fromkeys((size[name].train, size[name].valid) for name in FORMATS):
        formats = [name for name in FORMATS if (size[name].train, size[name].valid) == clips]
        found |= _command(call, source, formats, f"{clips[0]}:{clips[1]}")
    return found


def _command(call: Call, source: Source, formats: Sequence[str], clips: str) -> Facts:
    """One `python -m pipeline dataset`."""
    data = call.work / "data"
    folders = {name: data / folder_name(name) for name in formats}
    for folder in folders.values():
        with locked(folder / ".build" / "lock", str(folder), wait=True):  # of a call that was killed a moment ago
            pass
    before = {name: _standing(data, name) for name in formats}
    options = [*source.options(), "--format", ",".join(formats), "--clips", clips, "--out", str(data)]
    seen = call.python("clips", ["-m", "pipeline", "dataset", *options])
    found = {}
    for name, folder in folders.items():
        held, built = sum(_counts(folder).values()), _standing(data, name) - before[name]
        facts: Facts = {"clips": held, "built": built, "bytes": _bytes(folder)}
        if (took := finished_after(seen, folder)) is not None:
            facts |= {"seconds": round(took, 3), "clips_per_second": round(built / took, 2)}
        found[name] = facts
    return found


def finished_after(seen: list[tuple[float, str]], folder: Path) -> float | None:
    """Seconds between the line that says that a dataset is finished and the line before it, which begins its build."""
    for (before, _), (time, line) in itertools.pairwise(seen):
        if line.startswith(f"{folder}: "):
            return max(time - before, 1e-3)
    return None


def _standing(data: Path, name: str) -> int:
    """Clips of the shards that are finished."""
    from pipeline.build.folder import BuildFolder

    return sum(receipt.stop - receipt.start for receipt in BuildFolder(data, name).receipts().values())


def _counts(folder: Path) -> dict[str, int]:
    splits = json.loads((folder / MANIFEST).read_bytes())["splits"]
    return {split: splits[split]["clips"] for split in SPLITS}


def _bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.glob("*/*.tfrecord"))


def _possible(data: Path) -> Clips:
    """What the melodies give: the plan that was made last."""
    newest = max((data / "index").glob("plan-*/plan.json"), key=lambda path: path.stat().st_mtime)
    return Clips(**json.loads(newest.read_bytes())["clips"])

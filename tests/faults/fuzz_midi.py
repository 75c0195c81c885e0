"""Mutated MIDI files through the readers: `python -m tests.faults.fuzz_midi FOLDER... --inputs 100000`.

Every input is read in a sandboxed child by both readers, which must agree, and its song is cut into windows. A finding
is an input at which the child hangs, swells, dies or raises anything but a rejection; it is saved and counted.
Prints what became of the inputs as JSON; the exit status is 1 if there are findings.
"""

import argparse
import json
import random
import sys
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil

from data_specs.spec import ClipSpec, Limits
from pipeline.melody.windows import song_windows
from pipeline.midi import smf, symusic_reader
from pipeline.midi.reader import sounding_song
from pipeline.midi.song import Song
from pipeline.midi.sources import is_midi_name
from pipeline.rejects import Rejected
from pipeline.sandbox import Sandbox
from tests.faults.damage import mutated

LIMITS = Limits(seconds=20, memory_mb=500)
FINDINGS = ("timeout", "memory", "crash")
LARGEST = 8_000  # bytes of a file that is mutated: small ones are read often
LOOK_EVERY = 500  # inputs between two looks at the child's memory


def read_both(content: bytes) -> bytes:
    """In the child: read by the fast and the tolerant reader, compare, cut into windows; the outcome as JSON.

    Raises:
        Rejected: both readers reject the file.
        AssertionError: they do not agree.
    """
    index = smf.index_chunks(content)
    fast = _outcome(lambda: symusic_reader.read_notes(content, index, LIMITS))
    lenient = _outcome(lambda: smf.read_notes(content, index, LIMITS))
    if fast is not None:
        agreed = _comparable(fast) == _comparable(lenient)
        assert agreed, f"fast reader: {_short(fast)}; tolerant reader: {_short(lenient)}"
    if isinstance(lenient, Rejected):
        raise lenient
    windows, _ = song_windows(lenient, ClipSpec())
    return json.dumps({"fast": fast is not None, "windows": len(windows)}).encode()


def _outcome(read: Any) -> Song | Rejected | None:
    try:
        raw = read()
        return None if raw is None else sounding_song(raw, LIMITS)
    except Rejected as rejected:
        return rejected


def _comparable(outcome: Song | Rejected) -> Any:
    return outcome.args if isinstance(outcome, Rejected) else replace(outcome, rules=1).pack()


def _short(outcome: Song | Rejected) -> str:
    return str(outcome) if isinstance(outcome, Rejected) else f"{sum(len(t.pitch) for t in outcome.tracks)} notes"


def fuzz(files: Sequence[bytes], inputs: Iterable[int], seed: int = 0, save: Path | None = None) -> dict[str, Any]:
    """Input i of `inputs` is a file drawn and mutated by (seed, i). Returns counts; findings are named by i."""
    counts: Counter[str] = Counter()
    findings: list[str] = []
    slowest, largest = 0.0, 0
    started = time.monotonic()
    with Sandbox("tests.faults.fuzz_midi:read_both", {}, LIMITS.seconds, LIMITS.memory_mb) as sandbox:
        for number in inputs:
            rng = random.Random(f"{seed} {number}")
            content = mutated(rng.choice(files), rng)
            begun = time.monotonic()
            try:
                answer = json.loads(sandbox.call(content))
                counts["read by both" if answer["fast"] else "read by the tolerant reader"] += 1
                counts["windows"] += answer["windows"]
            except Rejected as rejected:
                counts[f"rejected: {rejected.reason}"] += 1
                if rejected.reason in FINDINGS:
                    findings.append(f"input {number}: {rejected}")
                    if save is not None:
                        save.mkdir(parents=True, exist_ok=True)
                        (save / f"{seed}-{number}.mid").write_bytes(content)
            slowest = max(slowest, time.monotonic() - begun)
            if number % LOOK_EVERY == 0 and sandbox._process is not None:
                largest = max(largest, psutil.Process(sandbox._process.pid).memory_info().rss)
    windows = counts.pop("windows", 0)
    return {
        "inputs": counts.total(),
        "files": len(files),
        "seconds": round(time.monotonic() - started, 1),
        "slowest_seconds": round(slowest, 3),
        "child_memory_mb": round(largest / 2**20),
        "windows": windows,
        "outcomes": dict(sorted(counts.items())),
        "findings": findings,
    }


def small_files(folders: Sequence[Path], largest: int = LARGEST) -> list[bytes]:
    """The MIDI files of up to `largest` bytes below `folders`, in the order of their names."""
    paths = [path for folder in folders for path in sorted(folder.rglob("*")) if is_midi_name(path.name)]
    return [path.read_bytes() for path in paths if path.is_file() and path.stat().st_size <= largest]


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.fuzz_midi", description=__doc__)
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--inputs", type=int, default=100_000)
    parser.add_argument("--first", type=int, default=0, metavar="N", help="number of the first input (0)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--save", type=Path, help="folder for inputs that are findings")
    arguments = parser.parse_args()
    files = small_files(arguments.folders)
    if not files:
        parser.error(f"there are no MIDI files of up to {LARGEST} bytes in the folders given")
    inputs = range(arguments.first, arguments.first + arguments.inputs)
    result = fuzz(files, inputs, arguments.seed, arguments.save)
    print(json.dumps(result, indent=1))
    return 1 if result["findings"] else 0


if __name__ == "__main__":
    sys.exit(main())

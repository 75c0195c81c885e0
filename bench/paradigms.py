"""Paradigms and formats at equal parameters, clips and core-seconds: `python -m bench.paradigms --out FOLDER`.

Stages: build of the sample dataset with the codecs `phaseless` and `pvt`; training of every entry for equal
core-seconds, on one thread; choice of sampler steps and guidance on valid clips that are not reported; scores on other
valid clips. Results of finished stages are kept in FOLDER, so that the same command resumes; a larger --seconds
continues the training of every entry.
"""

import argparse
import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.fixtures import ROOT
from data_specs.io.files import Json

if TYPE_CHECKING:
    from training.evaluation.evaluator import Evaluator

CONFIG = Path(__file__).with_name("paradigms.toml")
CODECS = {"phaseless": "audio,cqt,encodec,disc", "pvt": "encodec"}  # formats built with each codec
POLL_S = 0.5
STEPS = {"edm": (9, 18), "ddpm": (25, 50), "discdpm": (25, 50)}  # of the sampler, to choose from
GUIDANCE = (1.0, 2.0)


@dataclass(frozen=True)
class Entry:
    """An entry of the comparison, a row of the table; `overrides` are pairs as in SET=, `init` a model as in INIT=."""

    name: str
    paradigm: str
    format: str
    codec: str = "phaseless"
    overrides: str = ""
    config: Path = CONFIG
    init: str = ""


ENTRIES = (
    Entry("EDM-encodec", "edm", "encodec"),
    Entry("DDPM-encodec", "ddpm", "encodec"),
    Entry("DiscDPM-disc uniform", "discdpm", "disc"),
    Entry("DiscDPM-disc absorbing", "discdpm", "disc", overrides="diffusion.transition=absorbing"),
    Entry("EDM-cqt", "edm", "cqt"),
    Entry("EDM-encodec, codec pvt", "edm", "encodec", codec="pvt"),
    Entry("EDM-encodec, seed 1", "edm", "encodec", overrides="training.seed=1"),
)


@dataclass(frozen=True)
class Sizes:
    """Sizes of the comparison."""

    seconds: float  # core-seconds of training of each entry
    clips: str  # train:valid of the datasets
    reported: int  # generated clips of each entry
    chosen: int  # valid clips for the choice of options, after the reported ones
    length: float  # seconds of a clip


class Comparison:
    """Stages of the comparison in the folder `out`.

    Attributes:
        done: results of finished stages by key, as in `out`/progress.json.
    """

    def __init__(self, out: Path, sizes: Sizes) -> None:
        self.out = out
        self.sizes = sizes
        self.path = out / "progress.json"
        self.done: Json = json.loads(self.path.read_text()) if self.path.is_file() else {}

    def record(self, key: str, value: Any) -> None:
        """Set the result of a stage in `done`, and write progress.json."""
        from data_specs.io.files import write_json

        self.done[key] = value
        write_json(self.path, self.done)

    def datasets(self) -> None:
        """Build the datasets of both codecs in `out`/data, unless they are finished."""
        for codec, formats in CODECS.items():
            options = ["--format", formats, "--codec", codec, "--clips", self.sizes.clips, "--workers", "1"]
            command("pipeline", "dataset", *options, "--out", str(self.out / "data" / codec))

    def train(self, entry: Entry) -> None:
        """Train an entry until 97 % or more of its core-seconds are used, and record the core-seconds used."""
        key = f"{entry.name}: core-seconds"
        used = float(self.done.get(key, 0))
        while used < 0.97 * self.sizes.seconds:
            used += train_for(self.run(entry), self.data(entry), entry, self.sizes.seconds - used)
            self.record(key, used)
            print(f"{entry.name}: trained for {used:.0f} core-seconds", flush=True)

    def data(self, entry: Entry) -> Path:
        """Return the folder of the datasets of an entry."""
        return self.out / "data" / entry.codec

    def run(self, entry: Entry) -> Path:
        """Return the folder of the run of an entry."""
        return self.out / "runs" / entry.name.lower().replace(",", "").replace(" ", "-")

    def prepare(self) -> "Evaluator":
        """Return the evaluator with which all entries are scored."""
        from bench.paradigms_score import prepare

        return prepare(self.out / "data" / "phaseless", self.sizes.length, self.sizes.reported)

    def choose(self, entry: Entry, evaluator: "Evaluator") -> Json:
        """Return the sampling options of an entry: `steps`, `guidance`, and further facts of the choice."""
        from bench.paradigms_score import choose

        window = (self.sizes.reported, self.sizes.chosen)
        return choose(self.run(entry), evaluator, STEPS[entry.paradigm], GUIDANCE, *window)

    def score(self, entries: Sequence[Entry]) -> None:
        """Choose sampling options of each entry, score it and record its row, unless one of the same sizes is recorded.

        The same sizes are the present core-seconds of the entry and the number of generated clips. If an entry was
        scored, the facts of the reference are recorded as well.
        """
        from bench.paradigms_score import score

        evaluator, reported = None, self.sizes.reported
        for entry in entries:
            key, used = f"{entry.name}: row", self.done[f"{entry.name}: core-seconds"]
            row = self.done.get(key)
            if row and row["core_seconds"] == used and row["reported"] == reported:
                continue
            evaluator = evaluator or self.prepare()
            row = score(self.run(entry), evaluator, self.choose(entry, evaluator), reported)
            row |= {"run": entry.name, "codec": entry.codec, "core_seconds": used, "reported": reported}
            self.record(key, row)
            print(f"{entry.name}: scored", flush=True)
        if evaluator is not None:
            self.record("reference", evaluator.reference_facts())


def command(package: str, *options: str) -> None:
    """Run `python -m PACKAGE OPTIONS` in the folder of the project, with one thread per process.

    Raises:
        SystemExit: the command failed.
    """
    done = subprocess.run([sys.executable, "-m", package, *options], cwd=ROOT, env=one_thread())
    if done.returncode:
        raise SystemExit(f"python -m {package} {' '.join(options)} failed")


def one_thread() -> dict[str, str]:
    """Return the environment of this process with OMP_NUM_THREADS=1."""
    return {**os.environ, "OMP_NUM_THREADS": "1"}


def train_for(run: Path, data: Path, entry: Entry, seconds: float) -> float:
    """Train for about `seconds` of processor time, then stop the run at a step boundary; return the seconds used.

    Args:
        run: folder of the run, which is resumed if it exists.
        data: folder of the datasets.
        entry: paradigm, format, config and overrides.
        seconds: processor seconds of the training process.

    Raises:
        SystemExit: the run failed.
    """
    import psutil

    options = ["--paradigm", entry.paradigm, "--format", entry.format, "--config", str(entry.config)]
    options += ["--data", str(data), "--run", str(run), "--device", "cpu", "--threads", "1"]
    options += ["--set", entry.overrides] if entry.overrides else []
    options += ["--init", entry.init] if entry.init else []
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    child = subprocess.Popen([sys.executable, "-m", "training", "train", *options], cwd=ROOT, env=one_thread())
    watched = psutil.Process(child.pid)
    try:
        while child.poll() is None:
            times = watched.cpu_times()
            if times.user + times.system >= seconds:
                child.send_signal(signal.SIGTERM)
                break
            time.sleep(POLL_S)
    except psutil.NoSuchProcess:
        pass
    status = child.wait()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    if status and used < seconds:
        raise SystemExit(f"the training of {entry.name} failed")
    return used


def main() -> int:
    """Run all stages, print the tables, write paradigms.md to --out, and return the exit status 0."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--out", type=Path, default=Path("paradigms"), metavar="FOLDER", help="output folder (paradigms)")
    add("--seconds", type=float, default=1200, metavar="S", help="core-seconds of training of each row (1200)")
    add("--clips", default="400:80", metavar="TRAIN:VALID", help="sizes of the datasets (400:80)")
    add("--reported", type=int, default=64, metavar="N", help="generated clips of each row (64)")
    add("--chosen", type=int, default=16, metavar="N", help="valid clips for the choice of options (16)")
    add("--length", type=float, default=4.0, metavar="S", help="length of a clip (4)")
    arguments = parser.parse_args()
    sizes = Sizes(arguments.seconds, arguments.clips, arguments.reported, arguments.chosen, arguments.length)
    comparison = Comparison(arguments.out.absolute(), sizes)
    comparison.datasets()
    for entry in ENTRIES:
        comparison.train(entry)
    comparison.score(ENTRIES)
    from bench.paradigms_table import write

    print(write(comparison.out, comparison.done, [entry.name for entry in ENTRIES]))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

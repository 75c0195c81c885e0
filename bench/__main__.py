"""Benchmarks of the project beside baselines: `python -m bench`.

Each part runs in its own process. A part that fails or exceeds its time limit gives a row with the reason. Results are
written to results.json, results.md and results.svg.
"""

import argparse
import contextlib
import datetime
import importlib
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from bench.fixtures import ROOT, Context
from bench.table import Row
from data_specs.io.files import Json

PARTS = {
    "render": "bench.render",
    "midi": "bench.midi",
    "cqt": "bench.cqt",
    "codec": "bench.codec",
    "discdpm": "bench.discdpm",
    "pipeline": "bench.pipeline",
    "reader": "bench.reader",
    "sampling": "bench.sampling",
    "training": "bench.training",
    "steps": "bench.steps",
    "dask": "bench.dask_overhead",
    "gpu": "bench.gpu",
    "scale": "bench.scale",
    "unet": "bench.unet",
}
ONLY_FULL = ("scale", "unet")
PART_SECONDS, FULL_PART_SECONDS = 1200, 7200
PACKAGES = [
    "torch",
    "numpy",
    "dask",
    "tensorflow-cpu",
    "nnAudio",
    "librosa",
    "encodec",
    "pretty_midi",
    "mido",
    "symusic",
]


def main() -> int:
    """Run the command line and return the exit status: 1 if a part failed, else 0.

    With the hidden option --part, run that part in this process and write its rows to <scratch>/<part>.json.
    """
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--full", action="store_true", help="more repeats, cost against size, a public U-Net")
    parser.add_argument("--only", metavar="PART,...", help=f"parts to run, of {', '.join(PARTS)} (all)")
    parser.add_argument("--midi", type=Path, metavar="FOLDER", help="folder of MIDI files to read (composed ones)")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent, metavar="FOLDER", help="(bench)")
    parser.add_argument("--part", choices=PARTS, help=argparse.SUPPRESS)
    parser.add_argument("--scratch", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.part:
        context = Context(arguments.scratch, arguments.midi, arguments.full)
        found = importlib.import_module(PARTS[arguments.part]).rows(context)
        rows = [replace(row, part=arguments.part).to_json() for row in found]
        (arguments.scratch / f"{arguments.part}.json").write_text(json.dumps(rows))
        return 0
    chosen = arguments.only.split(",") if arguments.only else [n for n in PARTS if arguments.full or n not in ONLY_FULL]
    if unknown := [name for name in chosen if name not in PARTS]:
        parser.error(f"--only must name parts among {', '.join(PARTS)}, got {', '.join(unknown)}")
    if arguments.midi is not None and not arguments.midi.is_dir():
        parser.error(f"MIDI= must be a folder of MIDI files, got {arguments.midi}")
    return measure(chosen, arguments)


def measure(chosen: list[str], arguments: argparse.Namespace) -> int:
    """Run the parts `chosen` in order, print their rows, and write the results to `arguments.out`.

    Returns:
        1 if a part failed, else 0; missed budgets do not count.
    """
    rows: list[Row] = []
    failed = False
    started, load = time.monotonic(), os.getloadavg()[0]
    with tempfile.TemporaryDirectory(prefix="bench-") as scratch:
        for name in chosen:
            print(f"{name} ...", flush=True)
            begun = time.monotonic()
            found, fault = run_part(name, Path(scratch), arguments)
            rows += found
            failed |= bool(fault)
            for row in found:
                print(f"  {row.figure}: {_summary(row)}")
            print(f"  ({time.monotonic() - begun:.0f} s)", flush=True)
    about = {
        "command": "make bench-full" if arguments.full else "make bench",
        "parts": chosen,
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "machine": machine(),
        "cores": len(os.sched_getaffinity(0)),
        "load": f"{load:.1f} before, {os.getloadavg()[0]:.1f} after",
        "versions": ", ".join(f"{name} {found}" for name, found in versions().items()),
        "seconds": round(time.monotonic() - started, 1),
    }
    write(arguments.out, rows, about)
    missed = [row for row in rows if row.met is False]
    print(f"{len(rows)} rows, {len(missed)} budgets missed; see {arguments.out / 'results.md'}")
    return 1 if failed else 0


def run_part(name: str, scratch: Path, arguments: argparse.Namespace) -> tuple[list[Row], str]:
    """Run a part in a process of its own; return its rows and an empty text.

    If it fails or exceeds its time limit, return one row without a figure, and the reason. `arguments` are those of the
    command line, of which `full` and `midi` are passed on.
    """
    options = ["--part", name, "--scratch", str(scratch)]
    options += ["--full"] if arguments.full else []
    options += ["--midi", str(arguments.midi)] if arguments.midi else []
    most = FULL_PART_SECONDS if arguments.full else PART_SECONDS
    try:
        done = subprocess.run(
            [sys.executable, "-m", "bench", *options], cwd=ROOT, capture_output=True, text=True, timeout=most
        )
        fault = (done.stderr.strip().splitlines() or ["no output"])[-1] if done.returncode else ""
    except subprocess.TimeoutExpired:
        fault = f"it took more than {most} s"
    if fault:
        return [Row("the whole part", note=f"could not be measured: {fault:.300}", part=name)], fault
    return [Row.from_json(value) for value in json.loads((scratch / f"{name}.json").read_text())], ""


def _summary(row: Row) -> str:
    from bench.page import number

    ratio = f", {number(row.ratio)} x {row.baseline}" if row.ratio is not None else ""
    met = "" if row.met is None else f" ({row.budget}: {'met' if row.met else 'MISSED'})"
    return f"{number(row.ours)} {row.unit}{ratio}{met} {row.note if row.ours is None else ''}".rstrip()


def write(folder: Path, rows: list[Row], about: Json) -> None:
    """Write results.json, results.md and results.svg to `folder`, created if needed.

    `about` has the facts of the run, at least command, date, machine, cores, load, versions and seconds.
    """
    import matplotlib

    from bench.page import markdown, plot

    folder.mkdir(parents=True, exist_ok=True)
    content = {"about": about, "rows": [row.to_json() for row in rows]}
    (folder / "results.json").write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    (folder / "results.md").write_text(markdown(rows, about), encoding="utf-8")
    with matplotlib.rc_context({"svg.hashsalt": "bench", "svg.fonttype": "path"}):
        plot(rows, about).savefig(folder / "results.svg", metadata={"Date": None})


def machine() -> str:
    """Return the names of the processor and of a CUDA GPU if there is one, and the number of cores for this process."""
    import torch

    name = platform.processor() or platform.machine()
    with contextlib.suppress(OSError, StopIteration):
        lines = Path("/proc/cpuinfo").read_text(errors="replace").splitlines()
        name = next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    found = f"{name}, {len(os.sched_getaffinity(0))} cores"
    return f"{found}, {torch.cuda.get_device_name()}" if torch.cuda.is_available() else found


def versions() -> dict[str, str]:
    """Return the versions of Python and of those of PACKAGES that are installed, by name."""
    found = {"Python": platform.python_version()}
    for name in PACKAGES:
        with contextlib.suppress(PackageNotFoundError):  # not every part needs every package
            found[name] = version(name)
    return found


if __name__ == "__main__":
    sys.exit(main())

"""Modules on the two journeys of the project: from MIDI files to a loss, and from a curve file to a WAV file.

The commands of a journey run twice, with two different inputs and everything else equal. A module is on the journey if
one of its functions receives, returns or yields data that differs between the two runs: what depends on the MIDI files
or on the curve. Weights, tables, noise and options are equal in both runs and do not count.

Data are numpy arrays, torch tensors, pyarrow tables, more than 64 bytes (no digest is longer) and curves, bare or
inside tuples, lists, mappings and dataclasses. `self` and `cls` do not count, nor what happens while a module is
imported or after the journey's result exists.

The second figure is the number of modules of which any function runs: options, locks and logging included.
"""

import os
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from pipeline.tunes import midi_files

ROOT = Path(__file__).parents[1]
LONGEST_S = 1800
TUNES = 30  # in each of the two folders of MIDI files

# Installed in each Python process of a journey. Appends a line "PATH FUNCTION DIGEST" for data that a function
# receives, returns or yields, and "PATH FUNCTION" when a function runs for the first time.
TRACER = """
import atexit, dataclasses, os, sys, threading, zlib
ROOT, LINES, RESULT = (os.environ["JOURNEY_" + name] for name in ("ROOT", "LINES", "RESULT"))
MOST_CALLS, MOST_ITEMS, DEPTH = 300, 100, 3
calls, written = {}, set()
def digest(value, depth=DEPTH):
    "CRC-32 of the data in a value; 0 without data."
    kind = type(value)
    if kind in (int, float, str, bool, type(None)):
        return 0
    names = [one.__module__.partition(".")[0] + "." + one.__name__ for one in kind.__mro__]
    if "torch.Tensor" in names:
        import torch
        with torch.no_grad():
            flat = value.detach().cpu()
            value = (flat.float() if flat.is_floating_point() else flat).numpy()
        names = ["numpy.ndarray"]
    if "numpy.ndarray" in names:
        if value.dtype.hasobject:
            return zlib.crc32(repr(value.tolist()).encode()) or 1
        return zlib.crc32(value.tobytes(), zlib.crc32(repr(value.shape).encode())) or 1
    if "pyarrow.Table" in names:
        return zlib.crc32(repr(value.slice(0, MOST_ITEMS).to_pydict()).encode()) or 1
    if isinstance(value, (bytes, bytearray)):
        return zlib.crc32(value) or 1 if len(value) > 64 else 0
    if kind.__name__ == "Curve":
        return zlib.crc32(repr(value).encode()) or 1
    if not depth:
        return 0
    if isinstance(value, dict):
        inner = list(value.values())
    elif isinstance(value, (tuple, list)):
        inner = value
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        inner = [getattr(value, field.name, None) for field in dataclasses.fields(value)]
    else:
        return 0
    found = [one for one in (digest(item, depth - 1) for item in list(inner)[:MOST_ITEMS]) if one]
    return zlib.crc32(repr(found).encode()) or 1 if found else 0
def arguments(frame):
    code = frame.f_code
    count = code.co_argcount + code.co_kwonlyargcount + bool(code.co_flags & 4) + bool(code.co_flags & 8)
    for name in code.co_varnames[:count]:
        if name not in ("self", "cls") and name in frame.f_locals:
            yield frame.f_locals[name]
def importing(frame):
    while frame := frame.f_back:
        if frame.f_code.co_filename == "<frozen importlib._bootstrap>":
            return True
    return False
def write(*words):
    if words not in written and not os.path.exists(RESULT):
        written.add(words)
        with open(LINES, "a") as file:
            file.write(" ".join(words) + "\\n")
def trace(frame, event, argument):
    code = frame.f_code
    if event not in ("call", "return") or not code.co_filename.startswith(ROOT) or not code.co_flags & 1:
        return
    seen = calls[code] = calls.get(code, 0) + 1
    if seen > MOST_CALLS or importing(frame):
        return
    place = code.co_filename[len(ROOT):], code.co_qualname.replace(" ", "")
    write(*place)
    for value in [argument] if event == "return" else arguments(frame):
        try:
            found = digest(value)
        except Exception:
            continue  # a value that cannot be read, such as a tensor of a traced graph
        if found:
            write(*place, str(found))
threading.setprofile(trace)
sys.setprofile(trace)
atexit.register(sys.setprofile, None)
"""


@dataclass(frozen=True)
class Journey:
    """Arguments of `python -m pvt`, one list for each command, and the file that ends the journey, if one does."""

    commands: list[list[str]]
    result: str = ""


def journeys(folder: Path, first: bool) -> dict[str, Journey]:
    """The two journeys with files below `folder`; `first` chooses between two inputs."""
    midi, data, out = folder / "midi", folder / "data", folder / "samples"
    midi.mkdir(parents=True)
    for name, content in islice(midi_files(), 0 if first else TUNES, TUNES if first else 2 * TUNES):
        (midi / name.replace("/", "-")).write_bytes(content)
    curve = folder / "drawn.json"
    note = "E" if first else "A"
    curve.write_text(f'{{"version": 1, "velocity": [[0, 0.2], [2, 0.9]], "chroma": [[0, "{note}"], [1, "G"]]}}')
    build = ["dataset", "--spec=sample", f"--midi={midi}", "--format=encodec", "--clips=4:1", "--workers=1"]
    train = ["train", "--paradigm=edm", f"--data={data}", "--set=training.batch=2", "--dry-run", "--threads=1"]
    sample = ["sample", f"--controls={curve}", "--clips=1", "--sampler-steps=2", f"--out={out}", "--threads=1"]
    return {
        "MIDI to loss": Journey([[*build, f"--out={data}"], train]),
        "curve to WAV": Journey([sample], str(out / "drawn" / "0-00.wav")),
    }


def run_traced(journey: Journey, folder: Path, root: Path = ROOT) -> list[list[str]]:
    """Run the commands of a journey; return the words of the tracer's lines in order.

    Raises:
        subprocess.CalledProcessError: a command fails.
    """
    tracer, lines = folder / "tracer", folder / "lines.txt"
    tracer.mkdir(exist_ok=True)
    (tracer / "sitecustomize.py").write_text(TRACER)
    lines.write_text("")
    environment = {
        **os.environ,
        "PYTHONPATH": f"{tracer}{os.pathsep}{root}",
        "JOURNEY_ROOT": f"{root}/",
        "JOURNEY_LINES": str(lines),
        "JOURNEY_RESULT": journey.result,
    }
    for command in journey.commands:
        subprocess.run(
            [sys.executable, "-m", "pvt", *command],
            cwd=root,
            env=environment,
            check=True,
            stdout=subprocess.DEVNULL,
            timeout=LONGEST_S,
        )
    return [words for line in lines.read_text().splitlines() if not (words := line.split())[0].startswith(".")]


def passed(run: list[list[str]], other: list[list[str]]) -> dict[str, list[str]]:
    """Modules through which data passes that differs between two runs, each with its functions in order of passage."""
    elsewhere = set(map(tuple, other))
    found: dict[str, list[str]] = defaultdict(list)
    for words in run:
        if len(words) == 3 and tuple(words) not in elsewhere and words[1] not in found[words[0]]:
            found[words[0]].append(words[1])
    return {module: functions for module, functions in found.items() if functions}


def report(root: Path = ROOT) -> Iterator[str]:
    """Yield the modules of each journey in the order of passage, with the first functions that the data passes."""
    with tempfile.TemporaryDirectory() as name:
        sides = [Path(name) / "one", Path(name) / "other"]
        chosen = [journeys(side, first=side is sides[0]) for side in sides]
        for title in chosen[0]:
            run, other = (run_traced(one[title], side, root) for one, side in zip(chosen, sides, strict=True))
            on_journey = passed(run, other)
            ran = {words[0] for words in run}
            lines = [f"{module:44}{', '.join(functions[:3])}" for module, functions in on_journey.items()]
            yield "\n  ".join([f"{title}: data passes {len(on_journey)} modules, {len(ran)} run", *lines])

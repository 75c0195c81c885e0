"""Modules that work on the two journeys of the project: from MIDI to a loss, and from a curve to a WAV file.

A module works on a journey if one of its functions runs in any process of the journey's commands while no module is
being imported. Modules of which only constants, classes without methods or import-time registrations are used do not
count.
"""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
LONGEST_S = 540

# Installed in each Python process of a journey; appends the path of a module when the first of its functions runs.
TRACER = """
import atexit, os, sys, threading
ROOT, LIST = os.environ["JOURNEY_ROOT"], os.environ["JOURNEY_LIST"]
seen = set()
def importing(frame):
    while frame := frame.f_back:
        if frame.f_code.co_filename == "<frozen importlib._bootstrap>":
            return True
    return False
def trace(frame, event, argument):
    code = frame.f_code
    name = code.co_filename
    if event == "call" and name not in seen and name.startswith(ROOT) and code.co_flags & 1 and not importing(frame):
        seen.add(name)
        with open(LIST, "a") as file:
            file.write(name[len(ROOT):] + "\\n")
threading.setprofile(trace)
sys.setprofile(trace)
atexit.register(sys.setprofile, None)
"""


def journeys(folder: Path) -> dict[str, list[list[str]]]:
    """Arguments of `python -m pvt` for each journey, with files below `folder`."""
    data, out = folder / "data", folder / "samples"
    return {
        "MIDI to loss": [
            ["dataset", "--spec=sample", "--format=encodec", "--clips=4:1", "--workers=1", f"--out={data}"],
            ["train", "--paradigm=edm", f"--data={data}", "--set=training.batch=2", "--dry-run"],
        ],
        "curve to WAV": [["sample", "--controls=swell", "--clips=1", "--sampler-steps=2", f"--out={out}"]],
    }


def working_modules(commands: list[list[str]], folder: Path, root: Path = ROOT) -> list[str]:
    """Paths of the modules of `root` that work while `commands` run.

    Raises:
        subprocess.CalledProcessError: a command fails.
    """
    tracer, found = folder / "tracer", folder / "modules.txt"
    tracer.mkdir(exist_ok=True)
    (tracer / "sitecustomize.py").write_text(TRACER)
    found.write_text("")
    environment = {
        **os.environ,
        "PYTHONPATH": f"{tracer}{os.pathsep}{root}",
        "JOURNEY_ROOT": f"{root}/",
        "JOURNEY_LIST": str(found),
    }
    for command in commands:
        subprocess.run(
            [sys.executable, "-m", "pvt", *command],
            cwd=root,
            env=environment,
            check=True,
            stdout=subprocess.DEVNULL,
            timeout=LONGEST_S,
        )
    names = {line for line in found.read_text().splitlines() if not line.startswith(".")}
    return sorted(names - {name for name in names if name.endswith(("__init__.py", "__main__.py"))})


def report(root: Path = ROOT) -> Iterator[str]:
    """Yield the number and the paths of the modules of each journey."""
    with tempfile.TemporaryDirectory() as name:
        for journey, commands in journeys(Path(name)).items():
            modules = working_modules(commands, Path(name), root)
            yield "\n  ".join([f"{journey}: {len(modules)} modules", *modules])

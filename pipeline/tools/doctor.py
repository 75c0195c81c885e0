"""`make doctor`: a check of what the project needs on this machine, with the command that installs what is missing.

It also runs in a Python without packages (`python -m pipeline.tools.doctor`), so other packages are imported in the
checks.
"""

import importlib.util
import os
import platform
import shutil
import sys
from collections.abc import Callable
from ctypes.util import find_library
from importlib.metadata import version
from pathlib import Path

from data_specs.errors import UserError

Check = Callable[[], str]
PYTHONS = (3, 11), (3, 14)  # first and last version for which all pinned packages exist


def doctor() -> int:
    """Print one line per check and return the exit status.

    It is 1 if something that the default commands need is missing, or if the Python packages are not installed; else 0.
    Without the packages, only the checks of the system run.
    """
    is_set_up = importlib.util.find_spec("torch") is not None
    if not is_set_up:
        print("the environment is not set up; type: make setup (1 to 4 GB of packages, some minutes)")
    faults = 0
    for name, needed, check in CHECKS if is_set_up else SYSTEM_CHECKS:
        try:
            mark, text = "ok", check()
        except UserError as error:
            mark, text = ("MISSING" if needed else "absent"), str(error)
            faults += needed
        print(f"{mark:8}{name:16}{text}")
    print(f"{faults} missing; see above" if faults else "nothing is missing" + (" for make setup" * (not is_set_up)))
    return 1 if faults or not is_set_up else 0


def _python() -> str:
    first, last = (".".join(map(str, one)) for one in PYTHONS)
    if not PYTHONS[0] <= sys.version_info[:2] <= PYTHONS[1]:
        raise UserError(f"Python {platform.python_version()}; type: make setup PYTHON=python{last} ({first} to {last})")
    if importlib.util.find_spec("venv") is None or importlib.util.find_spec("ensurepip") is None:
        raise UserError("no venv module; type: sudo apt-get install python3-venv")
    return f"{platform.python_version()} at {sys.prefix}"


def _package(module: str, distribution: str) -> Check:
    def check() -> str:
        if importlib.util.find_spec(module) is None:
            raise UserError(f"not installed; type: make setup, or pip install {distribution}")
        return version(distribution)

    return check


def _fluidsynth_file() -> str:
    if not (found := find_library("fluidsynth")):
        raise UserError("not found; type: sudo apt-get install libfluidsynth3, or on macOS: brew install fluid-synth")
    return found


def _fluidsynth() -> str:
    from pipeline.render.fluidsynth import library_version

    return f"libfluidsynth {library_version()}"


def _soundfont() -> str:
    from pipeline.render.soundfont import soundfont_path

    return str(soundfont_path("timgm6mb"))


def _codec(name: str) -> Check:
    def check() -> str:
        from data_specs.codecs import load_codec, missing_weights

        if reason := missing_weights(name):
            raise UserError(reason)
        return f"sha256 {load_codec(name).digest[:16]}"

    return check


def _accelerator() -> str:
    import torch

    if torch.cuda.is_available():
        return f"{torch.cuda.get_device_name()}, torch {torch.__version__}"
    if torch.backends.mps.is_available():
        return f"Apple GPU (DEVICE=mps, untested), torch {torch.__version__}"
    raise UserError("no GPU that torch can use; everything runs on the CPU, where training is slow")


def _memory() -> str:
    gigabytes = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 1e9
    if gigabytes < 2:
        raise UserError(f"{gigabytes:.1f} GB; a worker of make dataset needs about 1 GB, training 2 GB")
    return f"{gigabytes:.1f} GB, {os.cpu_count()} cores"


def _disk() -> str:
    free = shutil.disk_usage(Path()).free
    if free < 4e9:
        raise UserError(f"only {free / 1e9:.1f} GB are free here; the sample datasets take 2 GB, the environment 4 GB")
    return f"{free / 1e9:.0f} GB free here"


# name, whether the default commands need it, check
SYSTEM_CHECKS: tuple[tuple[str, bool, Check], ...] = (
    ("python", True, _python),
    ("fluidsynth", False, _fluidsynth_file),
    ("memory", False, _memory),
    ("disk", True, _disk),
)
CHECKS: tuple[tuple[str, bool, Check], ...] = (
    ("python", True, _python),
    ("torch", True, _package("torch", "torch")),
    ("symusic", True, _package("symusic", "symusic")),
    ("dask", True, _package("distributed", "distributed")),
    ("pyfluidsynth", True, _package("fluidsynth", "pyfluidsynth")),
    ("fluidsynth", True, _fluidsynth),
    ("soundfont", True, _soundfont),
    ("codec phaseless", True, _codec("phaseless")),
    ("memory", False, _memory),
    ("disk", True, _disk),
    ("encodec", False, _package("encodec", "encodec")),
    ("encodec_24khz", False, _codec("encodec_24khz")),
    ("tensorflow", False, _package("tensorflow", "tensorflow-cpu")),
    ("gpu", False, _accelerator),
)

if __name__ == "__main__":
    sys.exit(doctor())

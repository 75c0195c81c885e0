"""`make doctor`: what this machine has, what it lacks, and what to type."""

import importlib.util
import platform
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

from data_specs.errors import UserError

Check = Callable[[], str]


def doctor() -> int:
    """Print a line per thing looked for; returns 1 when something that the default path needs is missing."""
    faults = 0
    for name, needed, check in CHECKS:
        try:
            mark, text = "ok", check()
        except UserError as error:
            mark, text = ("MISSING" if needed else "absent"), str(error)
            faults += needed
        print(f"{mark:8}{name:14}{text}")
    print("everything that the default path needs is there" if not faults else f"{faults} missing; see above")
    return 1 if faults else 0


def _python() -> str:
    return f"{platform.python_version()} at {sys.prefix}"


def _package(module: str, distribution: str) -> Check:
    def check() -> str:
        if importlib.util.find_spec(module) is None:
            raise UserError(f"not installed; type: make setup, or pip install {distribution}")
        return version(distribution)

    return check


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

    if not torch.cuda.is_available():
        raise UserError("no GPU that torch can use; everything runs on the CPU, training is slow there")
    return f"{torch.cuda.get_device_name()}, torch {torch.__version__}"


def _disk() -> str:
    import shutil

    free = shutil.disk_usage(Path()).free
    if free < 4e9:
        raise UserError(f"only {free / 1e9:.1f} GB are free here; the sample datasets take 2 GB, the environment 4 GB")
    return f"{free / 1e9:.0f} GB free here"


# name, whether the default path needs it, check
CHECKS: tuple[tuple[str, bool, Check], ...] = (
    ("python", True, _python),
    ("torch", True, _package("torch", "torch")),
    ("symusic", True, _package("symusic", "symusic")),
    ("dask", True, _package("distributed", "distributed")),
    ("pyfluidsynth", True, _package("fluidsynth", "pyfluidsynth")),
    ("fluidsynth", True, _fluidsynth),
    ("soundfont", True, _soundfont),
    ("codec phaseless", True, _codec("phaseless")),
    ("disk", True, _disk),
    ("encodec", False, _package("encodec", "encodec")),
    ("encodec_24khz", False, _codec("encodec_24khz")),
    ("tensorflow", False, _package("tensorflow", "tensorflow-cpu")),
    ("gpu", False, _accelerator),
)

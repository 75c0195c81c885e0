"""The kind of machine and the versions on which the last bits of stored arrays depend."""

import platform
import re
from importlib.metadata import PackageNotFoundError, version

from data_specs import __version__

PROJECT = "pvt-audio"
PACKAGES = ("numpy", "torch", "symusic", "mido", "pyfluidsynth", "nnAudio", "dask", "distributed", "pyarrow")
# Raise it when a change of this project's code changes stored bytes on one machine with the same packages.
ARITHMETIC_VERSION = 2


def versions() -> dict[str, str]:
    """Return the versions of this project, Python, libfluidsynth and the packages that affect stored data, by name.

    Packages that are not installed under their usual name are left out.
    """
    from pipeline.render.fluidsynth import library_version

    found = {PROJECT: __version__, "python": platform.python_version(), "fluidsynth": library_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue  # the distribution has another name, as in vendor builds
    return found


def machine_kind(device: str = "cpu") -> str:
    """Return the kind of this machine: one line that names everything on which the bits of float results depend.

    These are the processor, the GPU unless `device` is "cpu", torch, numpy, FluidSynth and `ARITHMETIC_VERSION`. Arrays
    computed on machines of one kind are byte-identical; those of two kinds agree within rounding.

    Args:
        device: torch device that encodes, "cpu" or a CUDA device.
    """
    import torch

    processor = f"{platform.machine()} {_cpu_vendor()} {torch.backends.cpu.get_cpu_capability()}"
    if device != "cpu":  # the GPU encodes what the processor has rendered
        processor = f"{torch.cuda.get_device_name(device)} beside {processor}"
    known = versions()
    packages = ", ".join(f"{name} {known[name]}" for name in ("torch", "numpy", "fluidsynth"))
    return f"{processor}, {packages}, arithmetic {ARITHMETIC_VERSION}"


def current_kind(kind: str) -> str:
    """Return a machine kind that any release recorded, in the present form of `machine_kind`.

    Releases 0.1.0 and 0.2.0 wrote their own version at its end in place of the arithmetic version: "pvt-audio 0.N.0"
    becomes "arithmetic N". Other texts are returned unchanged.
    """
    return re.sub(rf"{PROJECT} 0\.([12])\.0$", r"arithmetic \1", kind)


def _cpu_vendor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
            fields = dict(line.split(":", 1) for line in file.read().partition("\n\n")[0].splitlines() if ":" in line)
    except OSError:  # not Linux
        return platform.processor() or "unknown"
    cpu = {name.strip(): value.strip() for name, value in fields.items()}
    return f"{cpu.get('vendor_id', 'unknown')} family {cpu.get('cpu family', '?')}"


def set_deterministic() -> None:
    """Set torch's global options so that this process computes the same bits every time.

    Torch then uses one thread, no algorithms chosen by timing and no TF32, which rounds the factors of products to 10
    bits and is cuDNN's default for convolutions.
    """
    import torch

    # promise: chunks-constant-size-thread-2
    torch.set_num_threads(1)
    torch.backends.cuda.matmul.allow_tf32 = False
    # promise: chunks-constant-size-thread-3
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.deterministic = True

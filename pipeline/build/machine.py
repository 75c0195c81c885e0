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
    """Return the versions of this project, Python, the packages involved and libfluidsynth."""
    from pipeline.render.fluidsynth import library_version

    found = {PROJECT: __version__, "python": platform.python_version(), "fluidsynth": library_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue  # the distribution has another name, as in vendor builds
    return found


def machine_kind(device: str = "cpu") -> str:
    """Return one line with everything float results depend on.

    It names the processor or GPU, torch, numpy, FluidSynth and `ARITHMETIC_VERSION`. Arrays computed under one kind
    are byte-identical; between kinds they agree within rounding.
    """
    import torch

    processor = f"{platform.machine()} {_cpu_vendor()} {torch.backends.cpu.get_cpu_capability()}"
    if device != "cpu":  # the GPU encodes what the processor has rendered
        processor = f"{torch.cuda.get_device_name(device)} beside {processor}"
    known = versions()
    packages = ", ".join(f"{name} {known[name]}" for name in ("torch", "numpy", "fluidsynth"))
    return f"{processor}, {packages}, arithmetic {ARITHMETIC_VERSION}"


def current_kind(kind: str) -> str:
    """Return a recorded machine kind in the form of `machine_kind`.

    Up to release 0.2.0 the release took the place of the arithmetic version: 0.N.0 computes like version N.
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
    """Make this process compute the same bits whatever else runs.

    It computes on one thread, without TF32 and without algorithms chosen by timing. TF32 keeps 10 bits of a product's
    factors; cuDNN uses it for convolutions by default.
    """
    import torch

    # promise: chunks-constant-size-thread-2
    torch.set_num_threads(1)
    torch.backends.cuda.matmul.allow_tf32 = False
    # promise: chunks-constant-size-thread-3
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.deterministic = True

"""What computes: the kind of machine and the versions that decide the last bits of stored arrays."""

import platform
from importlib.metadata import PackageNotFoundError, version

from data_specs import __version__

PROJECT = "pvt-audio"
PACKAGES = ("numpy", "torch", "symusic", "mido", "pyfluidsynth", "nnAudio", "dask", "distributed", "pyarrow")


def versions() -> dict[str, str]:
    """Versions of this project, of Python, of the packages that take part, and of libfluidsynth."""
    from pipeline.render.fluidsynth import library_version

    found = {PROJECT: __version__, "python": platform.python_version(), "fluidsynth": library_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue  # the distribution goes by another name, as vendor builds do
    return found


def machine_kind(device: str = "cpu") -> str:
    """One line naming all that float arithmetic hangs on: processor or GPU, torch, numpy, FluidSynth, our version.

    Arrays computed under one kind are byte-identical; between kinds they agree within rounding.
    """
    import torch

    processor = f"{platform.machine()} {_cpu_vendor()} {torch.backends.cpu.get_cpu_capability()}"
    if device != "cpu":  # which encodes what the processor has rendered
        processor = f"{torch.cuda.get_device_name(device)} beside {processor}"
    known = versions()
    return f"{processor}, " + ", ".join(f"{name} {known[name]}" for name in ("torch", "numpy", "fluidsynth", PROJECT))


def _cpu_vendor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
            fields = dict(line.split(":", 1) for line in file.read().partition("\n\n")[0].splitlines() if ":" in line)
    except OSError:  # not Linux
        return platform.processor() or "unknown"
    cpu = {name.strip(): value.strip() for name, value in fields.items()}
    return f"{cpu.get('vendor_id', 'unknown')} family {cpu.get('cpu family', '?')}"


def repeatable_arithmetic() -> None:
    """Make this process compute the same bits whatever else runs: one thread, no TF32, no algorithm chosen by timing.

    TF32 keeps 10 bits of a product's factors; cuDNN uses it for convolutions unless told not to.
    """
    import torch

    # promise: chunks-constant-size-thread-2
    torch.set_num_threads(1)
    torch.backends.cuda.matmul.allow_tf32 = False
    # promise: chunks-constant-size-thread-3
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.deterministic = True

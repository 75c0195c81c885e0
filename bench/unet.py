"""Time of a training step of the 1-D U-Net and of that of denoising-diffusion-pytorch, with equal parameters and batch.

The package is installed to a separate folder without its dependencies, since torchvision and torchaudio, which other
modules of it need, have no build for a CPU torch. Its 1-D network needs einops; `accelerate`, which its trainer needs,
is replaced by an empty module.
"""

import importlib
import os
import subprocess
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from bench.fixtures import Context
from bench.table import Row, interleaved
from training.conditioning import ControlLayout
from training.config import load_config
from training.networks import build_network, parameter_count
from training.networks.precision import set_precision

PACKAGES = ("denoising-diffusion-pytorch", "einops", "ema-pytorch")
CHANNELS, FRAMES, BATCH = 128, 152, 8  # 2 s of encodec, a multiple of 8 for the package
REPEATS = 7
OURS, BF16, PUBLIC = "this project", "this project in bf16", "denoising-diffusion-pytorch"


def rows(context: Context) -> list[Row]:
    """Return rows of milliseconds of forward pass, backward pass and Adam on one thread.

    The package is installed to `scratch`/public.

    Raises:
        RuntimeError: pip cannot install the package.
    """
    torch.set_num_threads(1)
    mine, narrow = unconditional(), unconditional()
    set_precision(narrow, "bf16")
    theirs = public(installed(context.scratch / "public"), parameter_count(mine))
    x, target = torch.randn(2, BATCH, CHANNELS, FRAMES)
    ways = {
        OURS: step(mine, x, target, lambda network: network(x, torch.linspace(-1, 1, BATCH))),
        BF16: step(narrow, x, target, lambda network: network(x, torch.linspace(-1, 1, BATCH)).float()),
        PUBLIC: step(theirs, x, target, lambda network: network(x, torch.linspace(0, 999, BATCH))),
    }
    timings = interleaved(ways, REPEATS)
    sizes = f"{parameter_count(mine) / 1e6:.2f} M beside {parameter_count(theirs) / 1e6:.2f} M parameters"
    figure = f"training step of a 1-D U-Net, batch {BATCH}, {CHANNELS} x {FRAMES}, one thread"
    note = f"{sizes}, no controls, mean squared error"
    return [timings.row(figure, OURS, PUBLIC, note=note), timings.row(f"{figure}, bf16", BF16, OURS, note=note)]


def unconditional() -> nn.Module:
    """Return the network of the config `tiny` for EDM on encodec, without control branches."""
    table = load_config("tiny", "edm", "encodec").network | {"controls": {}}
    return build_network(table, (CHANNELS, FRAMES), ControlLayout((("velocity", 1),)))


def step(
    network: nn.Module, x: torch.Tensor, target: torch.Tensor, run: Callable[[nn.Module], Any]
) -> Callable[[], None]:
    """Return a function that does a training step of `network` by Adam on the mean squared error.

    Args:
        network: the network, trained in place.
        x: not used; `run` has the input.
        target: wanted output.
        run: function that computes the output of the network.
    """
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-4)

    def work() -> None:
        optimizer.zero_grad()
        (run(network) - target).square().mean().backward()
        optimizer.step()

    return work


def installed(folder: Path) -> Path:
    """Install PACKAGES to `folder` by pip, without their dependencies, and return it.

    Raises:
        RuntimeError: pip cannot install the packages.
    """
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(folder), *PACKAGES]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PIP_NO_INPUT": "1"})
    if done.returncode:
        raise RuntimeError(f"pip cannot install {PACKAGES[0]}: {done.stderr.strip().splitlines()[-1]:.200}")
    return folder


def public(folder: Path, parameters: int) -> nn.Module:
    """Return the U-Net of the package in `folder`, of the width with the number of parameters nearest to `parameters`.

    Widths are multiples of 4 from 8 to 128. Module search path and table of modules of this process are changed.
    """
    sys.path.insert(0, str(folder))
    substitute = types.ModuleType("accelerate")
    substitute.Accelerator = object  # type: ignore[attr-defined]
    sys.modules.setdefault("accelerate", substitute)
    package = types.ModuleType("denoising_diffusion_pytorch")  # its __init__ imports what cannot be loaded
    package.__path__ = [str(folder / "denoising_diffusion_pytorch")]
    sys.modules["denoising_diffusion_pytorch"] = package
    module = importlib.import_module("denoising_diffusion_pytorch.denoising_diffusion_pytorch_1d")

    def made(width: int) -> nn.Module:
        return module.Unet1D(dim=width, channels=CHANNELS, dim_mults=(1, 2, 4, 8))

    widths = range(8, 129, 4)
    nearest = min(widths, key=lambda width: abs(parameter_count(made(width)) - parameters))
    return made(nearest)

"""Measurements of a node, printed as JSON: `python -m bench.node.probe`."""

import argparse
import json
import platform
from pathlib import Path
from typing import Any

import torch

from bench.__main__ import machine
from bench.steps import counted, synchronised
from bench.table import interleaved
from data_specs.cli import Parser
from training.config import load_config
from training.data.dataset import Dataset
from training.diffusion_task import DiffusionTask
from training.distributed import choose_device

SIDES = {"cpu": 1024, "cuda": 8192}  # of the square matrices
REPEATS = 10


def rates(name: str | None) -> dict[str, Any]:
    """Return the machine, versions, and rates of matrix products (TFLOP/s, bf16 and float32) and of copies (GB/s).

    The device `name` is cpu or cuda; None for a CUDA GPU if available. A copy counts the bytes read and written.
    """
    device = choose_device(name)
    side = SIDES[device.type]
    narrow, wide = (torch.ones(side, side, device=device, dtype=dtype) for dtype in (torch.bfloat16, torch.float32))
    ways = {"bf16": lambda: narrow @ narrow, "float32": lambda: wide @ wide, "copy": wide.clone}
    timings = interleaved({way: synchronised(work) for way, work in ways.items()}, REPEATS)
    return {
        "machine": machine(),
        "versions": f"Python {platform.python_version()}, torch {torch.__version__}",
        "bf16_tflops": 2e-12 * side**3 / timings.least("bf16"),
        "float32_tflops": 2e-12 * side**3 / timings.least("float32"),
        "copy_gb_per_second": 2e-9 * 4 * side**2 / timings.least("copy"),
    }


def step(paradigm: str, format_name: str, config: str, data: Path) -> dict[str, Any]:
    """Return the floating-point operations (in 10^9) and kernels of a training step, counted on the meta device.

    Args:
        paradigm, format_name, config: paradigm, format and config of the training.
        data: PVT-<format>, or the folder above it.
    """
    task = DiffusionTask(load_config(config, paradigm, format_name), clips := Dataset(data, format_name=format_name))
    counts, operations = counted(task, clips)
    return {"step_gflop": operations / 1e9, "step_kernels": counts.kernels}


def main() -> None:
    """Print the result of `step` if --step is given, else that of `rates`, as JSON."""
    parser = Parser(prog="python -m bench.node.probe", description=__doc__, formatter_class=argparse.HelpFormatter)
    parser.add_argument("--device")
    parser.add_argument("--step", nargs=4, metavar=("PARADIGM", "FORMAT", "CONFIG", "DATA"))
    arguments = parser.parse_args()
    found = step(*arguments.step[:3], Path(arguments.step[3])) if arguments.step else rates(arguments.device)
    print(json.dumps(found))


if __name__ == "__main__":
    main()

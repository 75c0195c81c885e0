"""Measurements of a node in a process of their own, printed as JSON: `python -m bench.node.probe`."""

import argparse
import json
import platform
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from bench.__main__ import machine
from bench.steps import counted
from data_specs.cli import Parser
from training.config import load_config
from training.data.dataset import Dataset
from training.diffusion_task import DiffusionTask
from training.distributed import choose_device

SIDES = {"cpu": 1024, "cuda": 8192}  # of the square matrices
REPEATS = 10


def rates(name: str | None) -> dict[str, Any]:
    """Name of the machine, and the rates that bound a training step: matrix products and copies."""
    device = choose_device(name)
    side = SIDES.get(device.type, 1024)
    found = {"machine": machine(), "device": device.type}
    found["versions"] = f"Python {platform.python_version()}, torch {torch.__version__}"
    for dtype, precision in ((torch.bfloat16, "bf16"), (torch.float32, "float32")):
        a = torch.randn(side, side, device=device, dtype=dtype)
        seconds = _seconds(lambda a=a: a @ a, device)
        found[f"{precision}_tflops"] = round(2e-12 * side**3 / seconds, 3)
    copied = torch.ones(side * side, device=device)
    found["copy_gb_per_second"] = round(2e-9 * 4 * side**2 / _seconds(copied.clone, device), 1)
    return found


def _seconds(work: Callable[[], object], device: torch.device) -> float:
    """Least seconds of one call."""
    best = float("inf")
    for _ in range(REPEATS):
        started = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize()
        best = min(best, time.perf_counter() - started)
    return best


def step(paradigm: str, format_name: str, config: str, data: Path) -> dict[str, Any]:
    """Work of a training step, counted on the meta device: floating-point operations, and kernels without compile."""
    task = DiffusionTask(load_config(config, paradigm, format_name), clips := Dataset(data, format_name=format_name))
    counts, operations = counted(task, clips)
    return {"step_gflop": operations / 1e9, "step_kernels": counts.kernels}


def main() -> None:
    """The command line."""
    parser = Parser(prog="python -m bench.node.probe", description=__doc__, formatter_class=argparse.HelpFormatter)
    parser.add_argument("--device")
    parser.add_argument("--step", nargs=4, metavar=("PARADIGM", "FORMAT", "CONFIG", "DATA"))
    arguments = parser.parse_args()
    found = step(*arguments.step[:3], Path(arguments.step[3])) if arguments.step else rates(arguments.device)
    print(json.dumps(found))


if __name__ == "__main__":
    main()

"""Ranks of a run, their devices, and collectives as in torch.distributed.

Each rank is one process with one device. torchrun or srun (one task per GPU) starts several; otherwise there is a
single rank and no process group. B values per rank, N sums, R ranks.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor

from data_specs.cli import decimal
from data_specs.errors import UserError

DEVICES = ("cpu", "cuda", "mps")
MEETING = ("MASTER_ADDR", "MASTER_PORT")  # address at which ranks connect


@dataclass(frozen=True)
class World:
    """Number of this rank (0, 1, ...), number of ranks (`size`), and the device of this rank."""

    rank: int
    size: int
    device: torch.device

    @property
    def main(self) -> bool:
        """Whether this is rank 0, which writes the files."""
        return self.rank == 0

    @property
    def gpu(self) -> bool:
        """Whether this rank computes on a CUDA device."""
        return self.device.type == "cuda"

    def all_reduce_sum(self, values: Tensor) -> Tensor:
        """Replace `values` (float64 [N]) in place by their sums over all ranks, and return them."""
        if self.size > 1:
            dist.all_reduce(values)
        return values

    def all_gather(self, values: Tensor) -> Tensor:
        """Return the `values` [B] of all ranks, concatenated in order of the ranks: [R * B]; B is the same on all."""
        if self.size == 1:
            return values
        parts = [torch.empty_like(values) for _ in range(self.size)]
        dist.all_gather(parts, values)
        return torch.cat(parts)

    def broadcast(self, values: Tensor) -> Tensor:
        """Replace `values` in place by those of rank 0, of the same shape, and return them."""
        if self.size > 1:
            dist.broadcast(values, 0)
        return values

    def barrier(self) -> None:
        """Block until every rank has called this method."""
        if self.size > 1:
            dist.barrier()


def ranks_from(environment: Mapping[str, str]) -> tuple[int, int, int]:
    """Return (rank, number of ranks, rank on this machine), read from the variables that torchrun or srun sets.

    Without them, or with a single rank, it is (0, 1, 0).

    Raises:
        UserError: the variables contradict each other, or the address at which several ranks connect is missing.
    """
    if "RANK" in environment and "WORLD_SIZE" in environment:
        names, local_rank = ("RANK", "WORLD_SIZE"), environment.get("LOCAL_RANK", "0")
        advice = "unset RANK and WORLD_SIZE to train with one rank, or start ranks with GPUS= or torchrun"
    else:
        # The batch script of a job has SLURM_NTASKS as well; only a task that srun started has the size of its step.
        names, local_rank = ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS"), environment.get("SLURM_LOCALID", "0")
        advice = "export them as the template in training/slurm does"
    texts = [environment.get(names[0], "0"), environment.get(names[1], "1"), local_rank]
    rank, size, local = map(decimal, texts)
    if rank is None or size is None or local is None or rank >= max(1, size):
        pair = f"{names[0]}={texts[0]} and {names[1]}={texts[1]}"
        raise UserError(f"{pair} in the environment contradict each other; {advice}")
    if size > 1 and not all(environment.get(name) for name in MEETING):
        raise UserError(f"{names[1]}={size} is set in the environment but {' or '.join(MEETING)} is not; {advice}")
    return (rank, size, local) if size > 1 else (0, 1, 0)


def launched(environment: Mapping[str, str]) -> bool:
    """Return whether torchrun started this process, or srun as one of several tasks."""
    return "TORCHELASTIC_RUN_ID" in environment or int(environment.get("SLURM_STEP_NUM_TASKS", 1)) > 1


def allow_tf32(allowed: bool) -> None:
    """Set whether float32 products and convolutions on GPUs may use TF32; PyTorch's default allows convolutions."""
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = allowed


def choose_device(name: str | None, local_rank: int = 0) -> torch.device:
    """Return the device of a rank, and forbid TF32 on GPUs.

    Args:
        name: cpu, cuda or mps, optionally with a number such as cuda:1; None for a CUDA GPU if available, else the CPU.
        local_rank: number of the GPU, unless `name` has one or Slurm shows this process a single GPU.

    Raises:
        UserError: not a device, or one that this machine lacks.
    """
    try:
        device = torch.device(name or ("cuda" if torch.cuda.is_available() else "cpu"))
    except RuntimeError:
        device = None
    if device is None or device.type not in DEVICES:
        raise UserError(f"DEVICE= must be one of {', '.join(DEVICES)}, got {name!r:.40}")
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise UserError("DEVICE=mps is not available on this machine; use DEVICE=cpu")
    if device.type == "cuda":
        present = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if present == 1 and "SLURM_STEP_NUM_TASKS" in os.environ:
            local_rank = 0  # Slurm may show each task a single GPU
        index = local_rank if device.index is None else device.index
        if index >= present:
            raise UserError(f"GPU {index} was requested and this machine has {present}; lower GPUS= or use DEVICE=cpu")
        device = torch.device("cuda", index)
    allow_tf32(False)
    return device


@contextmanager
def join_world(device: str | None, timeout_minutes: float) -> Iterator[World]:
    """Connect to the other ranks for the duration of the block; the value is this rank.

    Ranks are read from the environment (`ranks_from`). TF32 is forbidden on GPUs.

    Args:
        device: cpu, cuda or mps; None for a CUDA GPU if available, else the CPU.
        timeout_minutes: longest wait for the other ranks in a collective before an error.

    Raises:
        UserError: variables of the environment or the device are invalid.
    """
    rank, size, local_rank = ranks_from(os.environ)
    chosen = choose_device(device, local_rank)
    if chosen.type == "cuda":
        torch.cuda.set_device(chosen)
    if size == 1:
        yield World(rank, size, chosen)
        return
    dist.init_process_group(
        "nccl" if chosen.type == "cuda" else "gloo",
        rank=rank,
        world_size=size,
        timeout=timedelta(minutes=timeout_minutes),
        device_id=chosen if chosen.type == "cuda" else None,
    )
    yield World(rank, size, chosen)
    dist.destroy_process_group()  # not after an error: ranks that fail alone would wait here for the others

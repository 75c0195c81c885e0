"""The ranks of a run: who they are, what they compute on, and how they agree.

One process is one rank with one device. torchrun, srun (one task per GPU) or `training.launch` start them; without any
of these there is a single rank and no process group.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor

from data_specs.errors import UserError


@dataclass(frozen=True)
class World:
    """One rank's view of the run."""

    rank: int
    size: int
    device: torch.device

    @property
    def main(self) -> bool:
        """Whether this rank writes the files."""
        return self.rank == 0

    @property
    def gpu(self) -> bool:
        """Whether this rank computes on a GPU."""
        return self.device.type == "cuda"

    def total(self, *values: float) -> list[float]:
        """Sums of `values` over all ranks, the same on each of them, in float64."""
        if self.size == 1:
            return list(values)
        tensor = torch.tensor(values, dtype=torch.float64, device=self.device)
        dist.all_reduce(tensor)
        return tensor.tolist()

    def all_gather(self, values: Tensor) -> Tensor:
        """[B] of each rank -> [R * B] on every rank, in the order of the ranks."""
        if self.size == 1:
            return values
        parts = [torch.empty_like(values) for _ in range(self.size)]
        dist.all_gather(parts, values)
        return torch.cat(parts)

    def broadcast(self, values: Tensor) -> Tensor:
        """The main rank's values on every rank; the shape is the same on all."""
        if self.size > 1:
            dist.broadcast(values, 0)
        return values

    def wait(self) -> None:
        """Return when every rank has come here."""
        if self.size > 1:
            dist.barrier()


def ranks_from(environment: dict[str, str]) -> tuple[int, int, int]:
    """(rank, number of ranks, rank on this machine) as torchrun or srun have put them into the environment.

    Raises:
        UserError: srun started several tasks but nothing says where they meet.
    """
    if "RANK" in environment and "WORLD_SIZE" in environment:
        return int(environment["RANK"]), int(environment["WORLD_SIZE"]), int(environment.get("LOCAL_RANK", 0))
    # The batch script of a job has SLURM_NTASKS as well; only a task that srun started has the size of its step.
    size = int(environment.get("SLURM_STEP_NUM_TASKS", 1))
    if size == 1:
        return 0, 1, 0
    if "MASTER_ADDR" not in environment or "MASTER_PORT" not in environment:
        raise UserError(
            "srun started several tasks but MASTER_ADDR and MASTER_PORT are not set; "
            "export them as the template in training/slurm does"
        )
    return int(environment["SLURM_PROCID"]), size, int(environment["SLURM_LOCALID"])


def choose_device(name: str | None, local_rank: int = 0) -> torch.device:
    """The device of a rank: `name`, or for None a GPU where there is one.

    Raises:
        UserError: a GPU is asked for that this machine does not have, or the name is not a device's.
    """
    try:
        device = torch.device(name or ("cuda" if torch.cuda.is_available() else "cpu"))
    except RuntimeError:
        raise UserError(f"DEVICE={name} is not a device; use cpu or cuda") from None
    if device.type not in ("cpu", "cuda"):
        raise UserError(f"DEVICE={name} is not supported; use cpu or cuda")
    if device.type == "cuda":
        index = local_rank if device.index is None else device.index
        if index >= torch.cuda.device_count():
            present = torch.cuda.device_count()
            raise UserError(f"GPU {index} is asked for and this machine has {present}; lower GPUS or use DEVICE=cpu")
        device = torch.device("cuda", index)
    return device


@contextmanager
def world(device: str | None, timeout_minutes: float) -> Iterator[World]:
    """Join the other ranks for the block.

    Args:
        device: cpu, cuda, or None for what the machine has.
        timeout_minutes: how long a rank waits for the others before it gives up with an error.
    """
    rank, size, local_rank = ranks_from(dict(os.environ))
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

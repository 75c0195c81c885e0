"""Numbers of kernels, copies, waits and floating-point operations of a training step.

Steps run on the `meta` device of PyTorch, whose tensors have no data. Dispatched operators are counted, without views,
and without torch.compile.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from bench.fixtures import Context, dataset
from bench.table import Row
from training.config import load_config
from training.data.dataset import Dataset
from training.data.loader import BatchBuilder
from training.diffusion_task import DiffusionTask
from training.distributed import World
from training.ema import EMA
from training.trainer import backward, step_values

PAIRS = (("edm", "encodec"), ("ddpm", "encodec"), ("discdpm", "disc"), ("edm", "cqt"))
META = torch.device("meta")
COPIES = ("_to_copy", "copy_", "_copy_from")


@dataclass
class Counts(TorchDispatchMode):
    """Numbers of operators dispatched in the block.

    Attributes:
        kernels: operators that compute on `device`.
        copies: copies from another device to `device`.
        waits: operators that read a value on `device`.
    """

    device: torch.device
    kernels: int = 0
    copies: int = 0
    waits: int = 0

    def __post_init__(self) -> None:
        super().__init__()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = func.overloadpacket.__name__
        given = [value for value in (*args, *kwargs.values()) if isinstance(value, torch.Tensor)]
        sources = {value.device.type for value in given}
        self.waits += name in ("_local_scalar_dense", "nonzero") and self.device.type in sources
        made = func(*args, **kwargs)
        if isinstance(made, torch.Tensor) and made.device.type == self.device.type:
            if name in COPIES and len(sources | {made.device.type}) > 1:
                self.copies += 1
            elif not func.is_view:
                self.kernels += 1
        return made


def training_step(task: DiffusionTask, data: Dataset, device: torch.device) -> Callable[[], None]:
    """Return a function that does a training step, each time on the same batch, as the training loop does on one rank.

    The network of `task` is moved to `device` and trained in place. The learning rate is Adam's default.
    """
    training = task.config.training
    world, network = World(0, 1, device), task.network.to(device).train()
    ema, objective = EMA(network, training.ema_decay), task.objective(network)
    kind = {"fused": True} if world.gpu else {"foreach": True}
    optimizer = torch.optim.Adam(network.parameters(), betas=training.adam_betas, **kind)
    batch = BatchBuilder(data, training, training.batch).train(np.arange(training.batch) % len(data))

    def step() -> None:
        losses = backward(task, objective, batch, world)
        norm = torch.nn.utils.clip_grad_norm_(network.parameters(), training.clip_norm)
        step_values(losses, norm, (False, False), world)
        optimizer.step()
        ema.update(1)
        optimizer.zero_grad()

    return step


def synchronised(compute: Callable[[], object], units: int = 1) -> Callable[[], int]:
    """Return a function that calls `compute`, waits for a CUDA GPU if there is one, and returns `units`."""

    def work() -> int:
        compute()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        return units

    return work


def _product(total: torch.Size, a: torch.Size, b: torch.Size, **options: Any) -> int:
    """Return the floating-point operations of `total.addmm_(a, b)` for shapes, which the counter of PyTorch lacks.

    `total` and `options` are not used.
    """
    return 2 * a[0] * a[1] * b[1]


def counted(task: DiffusionTask, data: Dataset, device: torch.device = META) -> tuple[Counts, int]:
    """Return the operators of the second training step of a task, and its floating-point operations in both passes.

    The step runs on `device`.
    """
    step = training_step(task, data, device)
    step()  # copies constants and makes the state of the optimizer
    with (
        FlopCounterMode(display=False, custom_mapping={torch.ops.aten.addmm_: _product}) as flops,
        Counts(device) as counts,
    ):
        step()
    return counts, flops.get_total_flops()


def rows(context: Context) -> list[Row]:
    """Return rows of the kernels and the floating-point operations of a step of each of PAIRS with the config `tiny`.

    Notes have the numbers of copies and waits.
    """
    found = []
    for paradigm, format_name in PAIRS:
        data = Dataset(dataset(context.scratch, format_name))
        config = load_config("tiny", paradigm, format_name)
        counts, flops = counted(DiffusionTask(config, data), data)
        what = f"of a step of {paradigm} on {format_name}, CONFIG=tiny, batch {config.training.batch}"
        note = f"{counts.copies} copies to the device, {counts.waits} waits for it"
        found.append(Row(f"kernels {what}", "", counts.kernels, note=note))
        found.append(Row(f"floating-point operations {what}", "GFLOP", flops / 1e9))
    return found

"""What a run trains. The loop knows steps, ranks, averages, checkpoints and logs; a task knows network, loss and data.

B clips of a batch, G clips of the global batch.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor, nn

from data_specs.spec import StrictModel
from training.config import RunConfig
from training.data.dataset import Dataset
from training.data.loader import Batch
from training.distributed import World
from training.ema import EMA
from training.log import RunLog


class Snapshot(Protocol):
    """A trained network as it is after some step."""

    def facts(self) -> dict[str, Any]:
        """Everything but the weights as a JSON value."""


class Task(ABC):
    """One kind of training.

    Attributes:
        config: sizes, rates and how often something is said.
        network: all parameters that are trained and averaged.
        facts: what has to stay the same of the data within a run, as a JSON value with the key `digest`.
    """

    config: RunConfig
    network: nn.Module
    facts: StrictModel

    @abstractmethod
    def objective(self, network: nn.Module) -> nn.Module:
        """`network`, trained or averaged, and its loss as one module, for `losses`."""

    @abstractmethod
    def losses(self, objective: nn.Module, batch: Batch, stream: str, world: World) -> Tensor:
        """Loss of each clip, float32 [B].

        Args:
            objective: of this task, perhaps shared between ranks.
            batch: clips as they are stored, on the CPU.
            stream: `train`, or `valid` for draws and weights of parts that never change.
            world: this rank, with the device to compute on.
        """

    @abstractmethod
    def snapshot(self, network: nn.Module, step: int, train_seconds: float) -> Snapshot:
        """What listeners and checkpoints get of the averaged `network`."""

    def before_step(self, step: int, average: EMA, train_data: Dataset, world: World) -> None:  # noqa: B027
        """Prepare step 1, 2, ...: a function of the step and the weights, the same on every rank."""

    def observe(self, step: int, losses: Tensor, world: World) -> None:  # noqa: B027 (most tasks learn nothing)
        """Learn from this rank's losses [G / R] of `step`, which changed the weights."""

    def measure(self, snapshot: Any, valid_data: Dataset, log: RunLog) -> None:  # noqa: B027
        """Measures beside the validation loss; called after it on the main rank."""

    def state(self) -> dict[str, Any]:
        """What the task has learned outside its network, for the checkpoint; its keys are the task's own."""
        return {}

    def load_state(self, state: dict[str, Any]) -> None:  # noqa: B027
        """The inverse of `state`; other keys are there too."""


MakeTask = Callable[[Any, Dataset], Task]  # config and train split -> a task with fresh weights, on the CPU
Listen = Callable[[Any, Dataset, RunLog, Path], None]  # writes what a snapshot sounds like by now into a folder

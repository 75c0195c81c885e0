"""Interface between training loop and kind of training. B clips of a batch, G of the global batch, R ranks."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from data_specs.errors import UserError
from data_specs.strict import StrictModel
from training.config import RunConfig
from training.data.dataset import Dataset
from training.data.loader import Batch
from training.distributed import World
from training.ema import EMA
from training.log import RunLog


class Task(ABC):
    """Network, loss and data of one kind of training: diffusion models, learned codecs.

    Attributes:
        config: of the run.
        network: all parameters that are trained and averaged.
        data: metadata of the dataset, which must not change within a run; has the key `digest`.
        adaptive: whether `observe` reads the losses of each step.
    """

    config: RunConfig
    network: nn.Module
    data: StrictModel
    adaptive: bool = False

    def prepare(self, trial: Callable[[], object], world: World, recorded: Mapping[str, Any] | None) -> None:  # noqa: B027
        """Resolve what the config leaves to the machine.

        Args:
            trial: one forward and backward pass.
            recorded: JSON form of the config that the run had before; None for a new run.
        """

    def initialize(self, source: Path) -> None:
        """Copy weights of the trained model at `source` into the network.

        Raises:
            UserError: this kind of training does not start from a model, or the model does not fit.
        """
        raise UserError("INIT= is not available for this kind of training")

    @abstractmethod
    def objective(self, network: nn.Module) -> nn.Module:
        """`network`, trained or averaged, and its loss as one module, for `losses`."""

    @abstractmethod
    def losses(self, objective: nn.Module, batch: Batch, stream: str, world: World) -> Tensor:
        """Loss of each clip, float32 [B].

        Args:
            objective: of this task, perhaps wrapped for several ranks.
            batch: clips as they are stored, on the CPU.
            stream: `train`, or `valid` for draws and weights that are the same at every step.
            world: this rank and its device.
        """

    @abstractmethod
    def trained(self, network: nn.Module, step: int, train_seconds: float) -> Any:
        """The trained model or codec with the averaged `network`; its method `metadata` describes it as JSON."""

    def before_step(self, step: int, ema: EMA, train_data: Dataset, world: World) -> None:  # noqa: B027
        """Prepare step 1, 2, ...: a function of the step and the weights, the same on every rank."""

    def observe(self, step: int, losses: Tensor, world: World) -> None:  # noqa: B027
        """Adapt to this rank's losses [G / R] of `step`, which changed the weights."""

    def measure(self, trained: Any, valid_data: Dataset, log: RunLog) -> None:  # noqa: B027
        """Log further measures after the validation loss, on the main rank."""

    def log_samples(self, trained: Any, valid_data: Dataset, log: RunLog, folder: Path) -> None:  # noqa: B027
        """Write audio and figures of fixed validation clips into `folder`, on the main rank."""

    def state_dict(self) -> dict[str, Any]:
        """State outside the network, for the checkpoint."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:  # noqa: B027
        """The inverse of `state_dict`."""

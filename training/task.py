"""Interface between the training loop and kinds of training. B clips, G clips of the global batch, R ranks."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from data_specs.errors import UserError
from data_specs.io.files import Json
from data_specs.strict import StrictModel
from training.config import RunConfig
from training.data.dataset import Dataset
from training.data.loader import Batch
from training.distributed import World
from training.ema import EMA
from training.log import RunLog


class Task(ABC):
    """Network, loss and data of one kind of training: of a diffusion model or of a codec.

    Attributes:
        config: config of the run.
        network: module with all parameters that are trained and averaged.
        data: metadata of the dataset, with the key `digest`; it must not change within a run.
        adaptive: whether `observe` needs the losses of each step.
    """

    config: RunConfig
    network: nn.Module
    data: StrictModel
    adaptive: bool = False

    def prepare(self, trial: Callable[[], object], world: World, recorded: Json | None) -> None:  # noqa: B027
        """Resolve keys of the config that depend on the machine; in this class, do nothing.

        Args:
            trial: function that does one forward and backward pass, for measurements.
            world: this rank.
            recorded: recorded config of the run as JSON; None for a new run.
        """

    def initialize(self, source: Path) -> None:
        """Copy weights of the trained model at `source` into the network; in this class, raise an error.

        Raises:
            UserError: this kind of training has no INIT=, or the model does not fit.
        """
        raise UserError("INIT= must not be given for this kind of training; remove it")

    @abstractmethod
    def objective(self, network: nn.Module) -> nn.Module:
        """Return a module of `network` (trained or averaged) and its loss, for the first argument of `losses`."""

    @abstractmethod
    def losses(self, objective: nn.Module, batch: Batch, stream: str, world: World) -> Tensor:
        """Return the loss of each clip, float32 [B].

        Args:
            objective: module from `objective`; with several ranks in DistributedDataParallel.
            batch: stored clips and controls.
            stream: `train`, or `valid` for random numbers and weights that are the same at every step.
            world: this rank.
        """

    @abstractmethod
    def trained(self, network: nn.Module, step: int, train_seconds: float) -> Any:
        """Return the model or codec with the averaged `network`; its method `metadata` returns JSON for snapshots.

        Args:
            network: module with averaged weights.
            step: number of steps done.
            train_seconds: wall-clock seconds of these steps.
        """

    def before_step(self, step: int, ema: EMA, train_data: Dataset, world: World) -> None:  # noqa: B027
        """Prepare `step` (1, 2, ...) before its losses, in the same way on every rank; in this class, do nothing."""

    def observe(self, step: int, losses: Tensor, world: World) -> None:  # noqa: B027
        """Adapt to the losses [G / R] of this rank at `step`, which was not skipped; in this class, do nothing."""

    def measure(self, trained: Any, valid_data: Dataset, log: RunLog) -> None:  # noqa: B027
        """Log measures other than the loss after each validation, on rank 0; in this class, do nothing.

        Args:
            trained: result of the method `trained`.
            valid_data: validation split.
            log: log of the run.
        """

    def log_samples(self, trained: Any, valid_data: Dataset, log: RunLog, folder: Path) -> None:  # noqa: B027
        """Write audio and figures of fixed validation clips to `folder` and `log` (rank 0); in this class, do nothing.

        `trained` is the result of the method of that name.
        """

    def state_dict(self) -> dict[str, Any]:
        """Return the state outside the network, for the checkpoint; in this class, it is empty."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:  # noqa: B027
        """Set the state outside the network to one that `state_dict` returned; in this class, do nothing."""

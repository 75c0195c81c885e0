"""Task of training a diffusion model."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from data_specs.errors import UserError
from data_specs.io.files import Json
from training.config import Config
from training.data.dataset import Dataset
from training.data.loader import Batch
from training.diffusion import CounterNoise, LossModule, PerClipNoise
from training.distributed import World
from training.initialization import initialize
from training.log import RunLog
from training.metadata import DatasetMetadata
from training.model import TrainedModel, build_model, load_model
from training.networks import check_width
from training.networks.precision import choose_precision, set_precision
from training.preview import log_samples
from training.task import Task


class DiffusionTask(Task):
    """Training of a backbone by a paradigm on the stored data of one format.

    Raises:
        UserError: the present codec is not the one that made the data, the network is narrower than the data, or
            training.curve_augmentation is set without network.augmented, or one of diffusion.guidance_spread and
            network.guided without the other.
    """

    def __init__(self, config: Config, data: Dataset) -> None:
        self.config: Config = config
        self.data: DatasetMetadata = DatasetMetadata.of(data.info, data.features)
        if self.data.classes is None:
            check_width(config.network, self.data.shape)
        if config.training.curve_augmentation and not config.network.get("augmented"):
            raise UserError(
                "training.curve_augmentation must be 0 unless network.augmented = true; set both or neither"
            )
        self.model = build_model(config, self.data)
        if bool(getattr(self.model.paradigm.config, "guidance_spread", 0)) != config.network.get("guided", False):
            raise UserError("diffusion.guidance_spread must be 0 unless network.guided = true; set both or neither")
        self.network = self.model.network
        self.adaptive = self.model.paradigm.adaptive

    def prepare(self, trial: Callable[[], object], world: World, recorded: Json | None) -> None:
        precision = self.config.training.precision
        if precision == "auto":
            before = (recorded or {}).get("training", {}).get("precision")
            precision = before if before in ("float32", "bf16") else choose_precision(self.network, trial, world.device)
            bf16 = world.broadcast(torch.tensor(float(precision == "bf16"), device=world.device))
            precision = "bf16" if bf16 else "float32"
        self.config = self.config.replaced("training", precision=precision)
        self.model = replace(self.model, config=self.config)
        set_precision(self.network, precision)

    def initialize(self, source: Path) -> None:
        unmatched = initialize(self.model, load_model(source))
        print(f"initial weights from {source}; weights without a match: {', '.join(unmatched) or 'none'}")

    def objective(self, network: nn.Module) -> nn.Module:
        return LossModule(network, self.model.paradigm)

    def losses(self, objective: nn.Module, batch: Batch, stream: str, world: World) -> Tensor:
        x0 = self.model.to_model(batch.data.to(world.device, non_blocking=True))
        controls = batch.controls.to(world.device, non_blocking=True)
        noise = self._noise(batch.positions.tolist(), stream, world)
        return objective(x0, controls, noise)

    def observe(self, step: int, losses: Tensor, world: World) -> None:
        if self.adaptive:  # by the losses of all ranks, so that the state is the same on each
            clips = self.config.training.batch
            noise = self._noise(range((step - 1) * clips, step * clips), "train", world)
            self.model.paradigm.observe(noise, world.all_gather(losses))

    def trained(self, network: nn.Module, step: int, train_seconds: float) -> TrainedModel:
        return replace(self.model, network=network, step=step, train_seconds=train_seconds)

    def log_samples(self, trained: TrainedModel, valid_data: Dataset, log: RunLog, folder: Path) -> None:
        log_samples(trained, valid_data, log, folder)

    def state_dict(self) -> dict[str, Any]:
        return dict(self.model.paradigm.state_dict())

    def load_state_dict(self, state: dict[str, Any]) -> None:
        # promise: saved-step-boundary-same-3
        self.model.paradigm.load_state_dict(state)

    def _noise(self, positions: Sequence[int], stream: str, world: World) -> PerClipNoise | CounterNoise:
        """Return the random numbers of the clips at `positions` in `stream`, a function of both and the seed.

        In training on a device other than a CPU they are computed on the device.
        """
        kind = PerClipNoise if stream != "train" or world.device.type == "cpu" else CounterNoise
        return kind(self.config.training.seed, positions, stream, world.device)

"""Training a diffusion model, as the loop sees it. B clips, G clips of the global batch, R ranks."""

import dataclasses
from collections.abc import Sequence
from typing import Any, Self

from torch import Tensor, nn

from training.config import Config
from training.data.dataset import Dataset
from training.data.loader import Batch
from training.diffusion import LossModule, PerClipNoise
from training.distributed import World
from training.model import DatasetMetadata, TrainedModel, build
from training.networks.precision import set_precision
from training.task import Task


class DiffusionTask(Task):
    """A backbone and a paradigm on the stored data of one format."""

    def __init__(self, config: Config, facts: DatasetMetadata) -> None:
        self.config: Config = config
        self.facts: DatasetMetadata = facts
        self.model = build(config, facts)
        self.network = self.model.network

    @classmethod
    def of(cls, config: Config, data: Dataset) -> Self:
        """The task of a config on a dataset.

        Raises:
            UserError: the codec at hand is not the one that the data was made with.
        """
        return cls(config, DatasetMetadata.of(data.info, data.features))

    def objective(self, network: nn.Module) -> nn.Module:
        precision, device = self.config.training.precision, next(network.parameters()).device
        set_precision(network, ("bf16" if device.type == "cuda" else "float32") if precision == "auto" else precision)
        return LossModule(network, self.model.paradigm)

    def losses(self, objective: nn.Module, batch: Batch, stream: str, world: World) -> Tensor:
        x0 = self.model.to_model(batch.data.to(world.device, non_blocking=True))
        controls = batch.controls.to(world.device, non_blocking=True)
        noise = self._noise(batch.positions.tolist(), stream, world)
        losses: Tensor = objective(x0, controls, noise)
        return losses

    def observe(self, step: int, losses: Tensor, world: World) -> None:
        """Show an adaptive paradigm the losses of the whole batch, so that it learns the same on every rank."""
        if self.model.paradigm.adaptive:
            clips = self.config.training.batch
            everyone = self._noise(range((step - 1) * clips, step * clips), "train", world)
            self.model.paradigm.observe(everyone, world.all_gather(losses))

    def snapshot(self, network: nn.Module, step: int, train_seconds: float) -> TrainedModel:
        return dataclasses.replace(self.model, network=network, step=step, train_seconds=train_seconds)

    def state(self) -> dict[str, Any]:
        return {"paradigm": self.model.paradigm.state_dict()}

    def load_state(self, state: dict[str, Any]) -> None:
        # promise: saved-step-boundary-same-3
        self.model.paradigm.load_state_dict(state["paradigm"])

    def _noise(self, positions: Sequence[int], stream: str, world: World) -> PerClipNoise:
        """Draws for clips at `positions`: the same everywhere in validation, in training by the device."""
        drawn_on = world.device if stream == "train" else "cpu"
        return PerClipNoise(self.config.training.seed, positions, stream, world.device, drawn_on)

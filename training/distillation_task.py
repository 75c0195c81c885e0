"""Task of tuning a model that samples in few steps (the student) from a trained EDM (the teacher)."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from data_specs.errors import UserError
from data_specs.io.files import Json
from training.config import Config
from training.data.dataset import Dataset
from training.data.loader import Batch
from training.diffusion.consistency import Consistency
from training.diffusion_task import DiffusionTask
from training.distributed import World
from training.ema import EMA
from training.initialization import initialize
from training.model import load_model
from training.networks.precision import set_precision


class DistillationTask(DiffusionTask):
    """Training of a student that starts as a copy of its teacher.

    Checkpoints contain the teacher, so a run resumes without the file of INIT=.
    """

    def __init__(self, config: Config, data: Dataset) -> None:
        super().__init__(config, data)
        assert isinstance(self.model.paradigm, Consistency)
        self.paradigm = self.model.paradigm
        self.teacher: nn.Module = copy.deepcopy(self.network).eval().requires_grad_(False)
        self.initialized, self.step = False, 0

    def initialize(self, source: Path) -> None:
        """Set the weights of the teacher and the student of this task to those of the model at `source`.

        Raises:
            UserError: there is no model at `source`, it is no EDM, or its sigma_data, codec or network differs from
                that of this task.
        """
        teacher = load_model(source)
        if teacher.config.paradigm != "edm" or teacher.paradigm.sigma_data != self.paradigm.sigma_data:
            raise UserError(
                f"INIT= must name an EDM with sigma_data {self.paradigm.sigma_data:g}, got {teacher!r} with "
                f"{teacher.paradigm.sigma_data:g}"
            )
        guidance = {"guidance.weight"} & self.network.state_dict().keys()  # an input of the student alone
        unmatched = set(initialize(self.model, teacher)) - guidance
        if unmatched or teacher.network.state_dict().keys() != self.network.state_dict().keys() - guidance:
            raise UserError(
                f"CONFIG= must have the network of the model INIT={source}, but {self.config.name} differs in "
                f"{', '.join(sorted(unmatched)) or 'its number of weights'}"
            )
        self.teacher.load_state_dict(self.network.state_dict())
        self.initialized = True
        print(f"teacher and initial weights from {source}")

    def prepare(self, trial: Callable[[], object], world: World, recorded: Json | None) -> None:
        if not self.initialized and recorded is None:
            raise UserError(f"PARADIGM={self.paradigm.name} needs a trained EDM as INIT=; give for example INIT=edm")
        self.paradigm.teacher = self.teacher.to(world.device)
        super().prepare(trial, world, recorded)
        precision = self.config.training.precision
        assert precision != "auto"
        set_precision(self.teacher, precision)

    def before_step(self, step: int, ema: EMA, train_data: Dataset, world: World) -> None:
        self.step = step

    def losses(self, objective: nn.Module, batch: Batch, stream: str, world: World) -> Tensor:
        self.paradigm.step = self.step if stream == "train" else None
        return super().losses(objective, batch, stream, world)

    def state_dict(self) -> dict[str, Any]:
        return {"teacher": self.teacher.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.teacher.load_state_dict(state["teacher"])

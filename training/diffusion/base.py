"""The one outward protocol of the paradigms, for training and for sampling. B batch, N control rows, T frames."""

from abc import ABC, abstractmethod
from typing import Annotated, Any, ClassVar, TypeVar

import torch
from pydantic import Field
from torch import Tensor, nn

from data_specs.spec import StrictModel, parse_model
from training.conditioning import ControlLayout
from training.diffusion.guidance import Weights
from training.diffusion.noise import Noise
from training.diffusion.samplers import Callback

S = TypeVar("S", bound=StrictModel)
MOST_STEPS = 10_000  # ten times what is published; more is a slip of the keyboard that would run for days
TrainedSteps = Annotated[int, Field(gt=1, le=MOST_STEPS)]
SamplerSteps = Annotated[int, Field(gt=0, le=MOST_STEPS)]


class Paradigm(ABC):
    """A way to train and to sample. It holds a schedule and its config, never a network.

    Args:
        config: the validated table `[diffusion.<name>]`.
        layout: the control features.
        classes: number of classes of a code, for paradigms over codes.
    """

    name: ClassVar[str]
    formats: ClassVar[tuple[str, ...]]  # that it can be trained on
    Config: ClassVar[type[StrictModel]]
    Options: ClassVar[type[StrictModel]]  # of sampling
    adaptive: bool = False  # whether `observe` does anything

    def __init__(self, config: StrictModel, layout: ControlLayout, classes: int | None = None) -> None:
        self.layout = layout

    @property
    def sigma_data(self) -> float:
        """Standard deviation that data should have when it comes here; codes have none and ignore it."""
        return 1.0

    @property
    def vocabulary(self) -> int | None:
        """Number of values of a code that networks take in; None for continuous data."""
        return None

    @abstractmethod
    def loss(self, network: nn.Module, x0: Tensor, controls: Tensor | None, noise: Noise) -> Tensor:
        """Training loss of each clip, float32 [B].

        Args:
            network: a backbone, not wrapped (see `LossModule`).
            x0: data as the network takes it: float [B, C, (F,) T] or int64 [B, K, T].
            controls: [B, N, T], dropped features already -1.
            noise: draws for these clips; the same draws give the same loss.
        """

    @abstractmethod
    def sample(
        self,
        network: nn.Module,
        shape: tuple[int, ...],
        controls: Tensor | None,
        noise: Noise,
        options: StrictModel | None = None,
        guidance: Weights = 1.0,
        callback: Callback | None = None,
    ) -> Tensor:
        """New clips, [B, *shape] with B = noise.batch, as `loss` takes them; no gradient is kept.

        Args:
            network: a backbone; its mode (train, eval) is the caller's.
            shape: of one clip, (C, T), (C, F, T) or (K, T).
            controls: [B, N, T], -1 where a feature is free.
            noise: draws, of which each clip uses its own.
            options: an instance of `Options`; None takes the published defaults.
            guidance: one weight, or one by feature.
            callback: called after each step with its number from 1, the number of steps and the state.
        """

    @abstractmethod
    def evaluations(self, options: StrictModel | None = None) -> int:
        """Number of network evaluations that `sample` takes, without guidance."""

    def observe(self, noise: Noise, losses: Tensor) -> None:  # noqa: B027 (most paradigms learn nothing)
        """Learn from the losses [B] that `loss` gave, in the order of the clips in the run.

        Only adaptive paradigms need it, once per step, with a fresh source of the same draws as `loss` had, for the
        clips of all ranks: that keeps every rank's state the same.
        """

    def state_dict(self) -> dict[str, Tensor]:
        """What `observe` has learned; empty where there is nothing."""
        return {}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:  # noqa: B027
        """The inverse of `state_dict`."""

    def options(self, values: dict[str, Any]) -> StrictModel:
        """Validated sampling options.

        Raises:
            UserError: an option that is not known or out of range.
        """
        return parse_model(self.Options, values, f"options of {self.name}")


class LossModule(nn.Module):
    """Network and loss as one module, so that DistributedDataParallel sees the whole computation in its forward."""

    def __init__(self, network: nn.Module, paradigm: Paradigm) -> None:
        super().__init__()
        self.network = network
        self.paradigm = paradigm

    def forward(self, x0: Tensor, controls: Tensor | None, noise: Noise) -> Tensor:
        """Loss of each clip, [B]."""
        return self.paradigm.loss(self.network, x0, controls, noise)


def chosen(options: StrictModel | None, kind: type[S]) -> S:
    """`options` if they are of `kind`, the defaults of `kind` if they are None; others are a programming error."""
    if options is None:
        return kind()
    if not isinstance(options, kind):
        raise TypeError(f"options of type {type(options).__name__} were given where {kind.__name__} are needed")
    return options


def per_clip(values: Tensor, like: Tensor) -> Tensor:
    """[B] -> [B, 1, ...] of the number of axes and the device of `like`."""
    return values.to(like.device).view(-1, *(1,) * (like.ndim - 1))


def mean_per_clip(values: Tensor) -> Tensor:
    """[B, ...] -> float32 [B], the mean over everything else."""
    return values.float().flatten(1).mean(dim=1)


def conditioning_of(sigma: Tensor) -> Tensor:
    """c_noise = ln(sigma) / 4 (Karras et al. 2022, table 1), of order one for every noise level in use."""
    return torch.log(sigma).float() / 4

"""Interface of the paradigms, for training and for sampling. B batch, N control rows, T frames."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, TypeVar

from pydantic import Field
from torch import Tensor, nn

from data_specs.arrays import Shape
from data_specs.io.files import Json
from data_specs.strict import StrictModel, parse_model
from training.conditioning import ControlLayout
from training.diffusion.guidance import Weights
from training.diffusion.noise import Noise
from training.diffusion.samplers import Callback

S = TypeVar("S", bound=StrictModel)
MOST_STEPS = 10_000  # ten times the published number
TrainedSteps = Annotated[int, Field(gt=1, le=MOST_STEPS)]
SamplerSteps = Annotated[int, Field(gt=0, le=MOST_STEPS)]


class Paradigm(ABC):
    """A loss and a way to sample. It holds a schedule and its config, never a network.

    Args:
        config: the validated table `[diffusion.<name>]`.
        layout: the control features.
        classes: number of classes of a code, for paradigms over codes.
    """

    name: ClassVar[str]
    formats: ClassVar[tuple[str, ...]]  # it can be trained on
    Config: ClassVar[type[StrictModel]]
    Options: ClassVar[type[StrictModel]]  # of sampling
    published: ClassVar[Mapping[str, Any]] = {}  # options of sampling as published, where they are not the defaults
    distilled: ClassVar[bool] = False  # whether training needs a teacher, the model of INIT=
    adaptive: bool = False  # whether `observe` has an effect

    def __init__(self, config: StrictModel, layout: ControlLayout, classes: int | None = None) -> None:
        self.layout = layout

    @property
    def sigma_data(self) -> float:
        """Standard deviation that continuous data must be scaled to."""
        return 1.0

    @property
    def vocabulary(self) -> int | None:
        """Number of input values of a code; None for continuous data."""
        return None

    @abstractmethod
    def loss(self, network: nn.Module, x0: Tensor, controls: Tensor | None, noise: Noise) -> Tensor:
        """Return the training loss of each clip, float32 [B].

        Args:
            network: a backbone, not wrapped (see `LossModule`).
            x0: scaled data or codes: float [B, C, (F,) T] or int64 [B, K, T].
            controls: [B, N, T], dropped features set to -1.
            noise: draws for these clips; the same draws give the same loss.
        """

    @abstractmethod
    def sample(
        self,
        network: nn.Module,
        shape: Shape,
        controls: Tensor | None,
        noise: Noise,
        options: StrictModel | None = None,
        guidance: Weights = 1.0,
        callback: Callback | None = None,
    ) -> Tensor:
        """Sample clips [B, *shape], B = noise.batch, without gradients.

        Args:
            network: a backbone in the mode (train, eval) that the caller set.
            shape: of one clip, (C, T), (C, F, T) or (K, T).
            controls: [B, N, T], -1 where a feature is unconditioned.
            noise: draws, of which each clip uses its own.
            options: an instance of `Options`; None for the published defaults.
            guidance: one weight, or one by feature.
            callback: called after each step.
        """

    @abstractmethod
    def evaluations(self, options: StrictModel | None = None) -> int:
        """Return the number of network evaluations of `sample`, without guidance."""

    def observe(self, noise: Noise, losses: Tensor) -> None:  # noqa: B027 (only adaptive paradigms need it)
        """Update an adaptive paradigm with the losses [B] of `loss`, in the order of the clips in the run.

        Called once per step with a new source of the same draws, for the clips of all ranks, so that every rank has the
        same state.
        """

    def state_dict(self) -> dict[str, Tensor]:
        """Return the state that `observe` changes; empty for most paradigms."""
        return {}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:  # noqa: B027
        """Restore the state of `state_dict`."""

    def options(self, values: Json) -> StrictModel:
        """Validate sampling options.

        Raises:
            UserError: an option that is unknown or out of range.
        """
        return parse_model(self.Options, values, f"options of {self.name}")


class LossModule(nn.Module):
    """Network and loss as one module, since DistributedDataParallel wraps one forward pass."""

    def __init__(self, network: nn.Module, paradigm: Paradigm) -> None:
        super().__init__()
        self.network = network
        self.paradigm = paradigm

    def forward(self, x0: Tensor, controls: Tensor | None, noise: Noise) -> Tensor:
        """Return the loss of each clip, [B]."""
        return self.paradigm.loss(self.network, x0, controls, noise)


def options_or_default(options: StrictModel | None, kind: type[S]) -> S:
    """Return `options`, or the defaults of `kind` for None.

    Raises:
        TypeError: options of another kind.
    """
    if options is None:
        return kind()
    if not isinstance(options, kind):
        raise TypeError(f"options must be {kind.__name__}, got {type(options).__name__}")
    return options

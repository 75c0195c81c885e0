"""Interface of the paradigms, for training and for sampling. B clips, N control rows, T frames."""

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
from training.diffusion.schedules import State

S = TypeVar("S", bound=StrictModel)
MOST_STEPS = 10_000  # ten times the published number
TrainedSteps = Annotated[int, Field(gt=1, le=MOST_STEPS)]
SamplerSteps = Annotated[int, Field(gt=0, le=MOST_STEPS)]


class Paradigm(ABC):
    """Loss and sampling of a diffusion model. The network is an argument of the methods.

    Args:
        config: validated table `[diffusion.<name>]`.
        layout: order of the controls.
        classes: number of classes of a code; None for continuous data.
    """

    name: ClassVar[str]
    formats: ClassVar[tuple[str, ...]]  # formats it can be trained on
    Config: ClassVar[type[StrictModel]]
    Options: ClassVar[type[StrictModel]]  # options of sampling
    published: ClassVar[Mapping[str, Any]] = {}  # published options of sampling that differ from the defaults
    distilled: ClassVar[bool] = False  # whether training needs a teacher, the model of INIT=
    adaptive: bool = False  # whether `observe` has an effect

    def __init__(self, config: StrictModel, layout: ControlLayout, classes: int | None = None) -> None:
        self.config: Any = config
        self.layout = layout

    @property
    def sigma_data(self) -> float:
        """Standard deviation to which continuous data must be scaled."""
        return 1.0

    @property
    def vocabulary(self) -> int | None:
        """Number of input values of a code; None for continuous data."""
        return None

    @abstractmethod
    def loss(self, network: nn.Module, x0: Tensor, controls: Tensor | None, noise: Noise) -> Tensor:
        """Return the training loss of each clip, float32 [B].

        Args:
            network: backbone.
            x0: clean clips: scaled data, float [B, C, (F,) T], or codes, int64 [B, K, T].
            controls: [B, N, T], -1 where unconditioned; None for a network without controls.
            noise: random numbers of these clips.
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
        """Sample B = `noise.batch` clips [B, *shape] without gradients.

        Args:
            network: backbone, in eval mode.
            shape: shape of one clip, (C, T), (C, F, T) or (K, T).
            controls: [B, N, T], -1 where unconditioned; None for a network without controls.
            noise: random numbers of these clips.
            options: an instance of `Options`; None for the defaults.
            guidance: one weight, or one for each control by its name.
            callback: called after each step.
        """

    @abstractmethod
    def evaluations(self, options: StrictModel | None = None) -> int:
        """Return the number of network evaluations of `sample` without guidance."""

    def observe(self, noise: Noise, losses: Tensor) -> None:  # noqa: B027 (only adaptive paradigms need it)
        """Update the state of an adaptive paradigm by the losses [B] that `loss` returned.

        It is called once per step, on every rank, for the clips of all ranks in the order of their positions. `noise`
        must be new, so that it repeats the random numbers of `loss`.
        """

    def state_dict(self) -> State:
        """Return the state that `observe` updates; empty unless the paradigm is adaptive."""
        return {}

    def load_state_dict(self, state: State) -> None:  # noqa: B027
        """Restore a state that `state_dict` returned."""

    def options(self, values: Json) -> StrictModel:
        """Return `values` as validated options of sampling.

        Raises:
            UserError: an option that is unknown or out of range.
        """
        return parse_model(self.Options, values, f"options of {self.name}")


class LossModule(nn.Module):
    """Network and loss as one module, for DistributedDataParallel."""

    def __init__(self, network: nn.Module, paradigm: Paradigm) -> None:
        super().__init__()
        self.network = network
        self.paradigm = paradigm

    def forward(self, x0: Tensor, controls: Tensor | None, noise: Noise) -> Tensor:
        """Return the loss of each clip, float32 [B]."""
        return self.paradigm.loss(self.network, x0, controls, noise)


def options_or_default(options: StrictModel | None, kind: type[S]) -> S:
    """Return `options`, or the defaults of `kind` for None.

    Raises:
        TypeError: options of another class.
    """
    if options is None:
        return kind()
    if not isinstance(options, kind):
        raise TypeError(f"options must be {kind.__name__}, got {type(options).__name__}")
    return options

"""Interface of the paradigms, for training and for sampling.

B clips, C channels, F bins, K codebooks, N control rows, T frames.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, TypeVar

from pydantic import Field
from torch import Tensor, nn

from data_specs.arrays import Shape
from data_specs.errors import UserError
from data_specs.io.files import Json
from data_specs.strict import StrictModel, parse_model
from training.conditioning import ControlLayout
from training.diffusion.guidance import Weights, describe_weights
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
        config: validated table `[diffusion.<name>]`, an instance of `Config`.
        layout: order of the controls in stacked tensors.
        classes: number of classes of a code; None for continuous data. Only paradigms over codes use it.
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
        """Standard deviation to which continuous data must be scaled before `loss`; 1 unless a subclass changes it."""
        return 1.0

    @property
    def guidance_range(self) -> tuple[float, float] | None:
        """Least and largest weight of guidance, one for all controls; None if weights are free and may differ."""
        return None

    @property
    def vocabulary(self) -> int | None:
        """Number of values that a code has in the input of the network, a mask included; None for continuous data."""
        return None

    @abstractmethod
    def loss(self, network: nn.Module, x0: Tensor, controls: Tensor | None, noise: Noise) -> Tensor:
        """Return the training loss of each clip, float32 [B], with gradients for the parameters of `network`.

        Args:
            network: backbone.
            x0: clean clips: scaled data, float [B, C, (F,) T], or codes, int64 [B, K, T].
            controls: [B, N, T], -1 where unconditioned; None for a network without controls.
            noise: random numbers of these B clips; the call draws the next ones.
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
        """Return B = `noise.batch` new clips [B, *shape], scaled data (float32) or codes (int64), without gradients.

        Args:
            network: backbone, in eval mode.
            shape: shape of one clip, (C, T), (C, F, T) or (K, T).
            controls: [B, N, T], -1 where unconditioned; None for a network without controls.
            noise: random numbers of these clips.
            options: an instance of `Options`; None for the defaults.
            guidance: weight of classifier-free guidance, 1 for none; or weights by name of the control, 1 for others.
            callback: called with a `SamplerState` after each step.

        Raises:
            TypeError: `options` is not an instance of `Options`.
            UserError: options or weights that the paradigm cannot use.
        """

    @abstractmethod
    def evaluations(self, options: StrictModel | None = None) -> int:
        """Return the number of network evaluations per clip in `sample` with `options`, without guidance.

        None is for the default options.
        """

    def observe(self, noise: Noise, losses: Tensor) -> None:  # noqa: B027 (only adaptive paradigms need it)
        """Update the state of an adaptive paradigm by the losses [B] that `loss` returned; other paradigms do nothing.

        The training calls it once per step on every rank, with the clips of all ranks in the order of their positions.
        `noise` must be a new instance with the seed and positions of the one given to `loss`, so that it repeats the
        same random numbers.
        """

    def state_dict(self) -> State:
        """Return the state that `observe` updates; empty unless the paradigm is adaptive."""
        return {}

    def load_state_dict(self, state: State) -> None:  # noqa: B027
        """Set the state to one that `state_dict` returned; does nothing unless the paradigm is adaptive."""

    def check_guidance(self, guidance: Weights) -> None:
        """Raise an error if `sample` cannot use `guidance`, its argument of the same name.

        Raises:
            UserError: there is a `guidance_range`, and `guidance` is outside of it or has weights by control.
        """
        if self.guidance_range is None:
            return
        low, high = self.guidance_range
        if isinstance(guidance, Mapping) or not low <= guidance <= high:
            allowed = f"{low:g}" if low == high else f"one number from {low:g} to {high:g}"
            raise UserError(
                f"the weight of guidance of this {self.name} model must be {allowed}, as in its training, got "
                f"{describe_weights(guidance)}; give such a weight, or take an EDM, for example the model `edm`"
            )

    def options(self, values: Json) -> StrictModel:
        """Return an instance of `Options` from `values` by option name; an option that is left out has its default.

        Raises:
            UserError: an option that is unknown, of the wrong type or out of range.
        """
        return parse_model(self.Options, values, f"sampler options of {self.name} models")


class LossModule(nn.Module):
    """Network and loss as one module, for DistributedDataParallel."""

    def __init__(self, network: nn.Module, paradigm: Paradigm) -> None:
        super().__init__()
        self.network = network
        self.paradigm = paradigm

    def forward(self, x0: Tensor, controls: Tensor | None, noise: Noise) -> Tensor:
        """Return the loss of each clip, float32 [B]; arguments as in `Paradigm.loss`."""
        return self.paradigm.loss(self.network, x0, controls, noise)


def options_or_default(options: StrictModel | None, kind: type[S]) -> S:
    """Return `options`, or for None an instance of `kind` with the default of every option.

    Raises:
        TypeError: `options` is not an instance of `kind`.
    """
    if options is None:
        return kind()
    if not isinstance(options, kind):
        raise TypeError(f"options must be {kind.__name__}, got {type(options).__name__}")
    return options

"""Base of the networks of learned codecs.

B clips, C and E channels of a layer's input and output, D latent channels, T frames, N = T hop samples. No convolution
has a bias and every nonlinearity keeps zero at zero: silence has the zero latent, and the zero latent is silence.
"""

from abc import ABC, abstractmethod
from typing import Any, ClassVar, Self

from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from data_specs.strict import Positive, StrictModel


class StackOptions(StrictModel):
    """Size of a `FrameStack`: channels inside, and number of residual units."""

    width: Positive = 192
    blocks: int = Field(default=4, ge=0, le=12)


class CodecNetwork(nn.Module, ABC):
    """Audio <-> latents, differentiable both ways: the trained part of a learned codec.

    Names and shapes of its tensors depend on the options alone, so that `load_state_dict` sets all of them.
    """

    kind: ClassVar[str]
    Options: ClassVar[type[StrictModel]]
    phase: ClassVar[bool] = True  # whether `decode` decides the phase, so that a loss may compare waveforms
    one_scale: ClassVar[bool] = False  # as in `Codec`
    begins_as: ClassVar[str | None] = None  # the kind of closed-form codec that it begins as
    channels: int  # D
    hop: int = 320

    @classmethod
    @abstractmethod
    def of(cls, options: StrictModel) -> Self:
        """Return the network with new weights, drawn from torch's global generator."""

    @abstractmethod
    def encode(self, audio: Tensor) -> Tensor:
        """Encode audio, float32 [B, 1, N], to latents [B, D, T]."""

    @abstractmethod
    def decode(self, latents: Tensor) -> Tensor:
        """Decode latents [B, D, T] to audio, float32 [B, 1, N]."""

    @classmethod
    def inherited(cls, tensors: dict[str, Tensor], power: float) -> dict[str, Any]:
        """Return the options fixed by the closed-form codec that the network starts from; none in the base class.

        `tensors` and `power` of the companding are those of that codec's weights file.
        """
        return {}

    def begin(self, tensors: dict[str, Tensor]) -> None:
        """Set the weights so that the network computes what the closed-form codec with `tensors` does.

        The base class does nothing.
        """


class FrameStack(nn.Module):
    """Residual dilated convolutions over frames, [B, C, T] -> [B, E, T]; the output is zero before training."""

    def __init__(self, inputs: int, outputs: int, options: StackOptions) -> None:
        super().__init__()
        width = options.width
        self.first = nn.Conv1d(inputs, width, 3, padding=1, bias=False)
        self.blocks = nn.Sequential(*(ResidualUnit(width, width, 2 ** (index % 3)) for index in range(options.blocks)))
        self.last = nn.Conv1d(width, outputs, 1, bias=False)
        nn.init.zeros_(self.last.weight)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.last(functional.elu(self.blocks(self.first(x))))
        return result


class ResidualUnit(nn.Module):
    """x + W1 elu(W3 elu(x)) of x [B, C, T]: W3 is a dilated convolution of three frames, W1 one of a single frame."""

    def __init__(self, channels: int, inner: int, dilation: int) -> None:
        super().__init__()
        self.wide = nn.Conv1d(channels, inner, 3, padding=dilation, dilation=dilation, bias=False)
        self.point = nn.Conv1d(inner, channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.point(functional.elu(self.wide(functional.elu(x))))

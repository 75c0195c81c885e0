"""A small SEANet (Tagliasacchi et al. 2020) as neural codecs use it: SoundStream (Zeghidour et al. 2021, fig. 3).

B clips, C and E channels of a layer's input and output, N samples. Each downsampling layer of the encoder divides the
length by its stride and doubles the channels; the product of the strides is the hop. The decoder mirrors the encoder.
Dilated residual units at each rate. Not causal, and without recurrence: a clip is coded whole.
"""

from typing import Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional

from data_specs.codecs.networks.base import CodecNetwork, ResidualUnit
from data_specs.strict import Positive, StrictModel


class SeanetOptions(StrictModel):
    """Sizes. The encoder has filters * 2^i channels after i downsampling layers."""

    filters: Positive = 8
    channels: Positive = 128
    strides: tuple[int, ...] = Field(default=(2, 4, 5, 8), min_length=1)
    dilations: tuple[Positive, ...] = (1, 3)  # of the residual units at each rate

    @model_validator(mode="after")
    def _strides_give_the_hop(self) -> Self:
        if min(self.strides) < 1 or torch.tensor(self.strides).prod() != CodecNetwork.hop:
            raise ValueError(f"strides must multiply to {CodecNetwork.hop}, for example [2, 4, 5, 8]")
        return self


class SeanetNetwork(CodecNetwork):
    """Waveform to latents and back by convolutions alone."""

    kind = "seanet"
    Options = SeanetOptions

    def __init__(self, options: SeanetOptions) -> None:
        super().__init__()
        self.channels, width = options.channels, options.filters
        down: list[nn.Module] = [nn.Conv1d(1, width, 7, padding=3, bias=False)]
        up: list[nn.Module] = [nn.Conv1d(width, 1, 7, padding=3, bias=False), nn.ELU()]
        for stride in options.strides:
            down += [*_units(width, options), nn.ELU(), Shorten(width, 2 * width, stride)]
            up += [*reversed(_units(width, options)), Lengthen(2 * width, width, stride), nn.ELU()]
            width *= 2
        down += [nn.ELU(), nn.Conv1d(width, self.channels, 3, padding=1, bias=False)]
        up += [nn.Conv1d(self.channels, width, 7, padding=3, bias=False)]
        self.encoder, self.decoder = nn.Sequential(*down), nn.Sequential(*reversed(up))

    @classmethod
    def of(cls, options: StrictModel) -> Self:
        assert isinstance(options, SeanetOptions)
        return cls(options)

    def encode(self, audio: Tensor) -> Tensor:
        latents: Tensor = self.encoder(audio.float())
        return latents

    def decode(self, latents: Tensor) -> Tensor:
        audio: Tensor = self.decoder(latents.float())
        return audio


class Shorten(nn.Module):
    """[B, C, N] -> [B, E, N / stride], N a multiple of the stride: a convolution twice as long as its stride."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv = nn.Conv1d(inputs, outputs, 2 * stride, stride=stride, bias=False)
        self.margins = (stride - stride // 2, stride // 2)

    def forward(self, x: Tensor) -> Tensor:
        shorter: Tensor = self.conv(functional.pad(x, self.margins))
        return shorter


class Lengthen(nn.Module):
    """[B, C, N] -> [B, E, N * stride]: a transposed convolution twice as long as its stride, without its margins."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv = nn.ConvTranspose1d(inputs, outputs, 2 * stride, stride=stride, bias=False)
        self.first = stride - stride // 2
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        longer: Tensor = self.conv(x)
        return longer[..., self.first : self.first + x.shape[-1] * self.stride]


def _units(width: int, options: SeanetOptions) -> list[nn.Module]:
    return [ResidualUnit(width, max(1, width // 2), dilation) for dilation in options.dilations]

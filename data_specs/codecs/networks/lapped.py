"""`pvt` with networks around its matrices.

B clips, H hop, D latent channels, T frames. Encoder: the MDCT gives H coefficients a frame, which are weighted. Latents
are the sum of two terms: the coefficients projected to D numbers and companded, as in `pvt`, and the output of a stack
over the companded coefficients of neighbouring frames. Decoder: the sum of the latents projected back and the output of
another stack gives companded coefficients; companding, weight and MDCT are then inverted. The stacks give zero before
training.
"""

from typing import Any, Self

import torch
from torch import Tensor, nn

from data_specs.codecs import mdct
from data_specs.codecs.networks.base import CodecNetwork, FrameStack, StackOptions
from data_specs.codecs.pvt import radial_power
from data_specs.strict import StrictModel


class LappedOptions(StackOptions):
    """Sizes of the two stacks, number of latent channels, and exponent of the companding."""

    channels: int = 128
    power: float = 0.35


class LappedNetwork(CodecNetwork):
    """Frame-rate network that equals `pvt` after `begin` and before training."""

    kind = "lapped"
    Options = LappedOptions
    begins_as = "pvt"

    def __init__(self, options: LappedOptions) -> None:
        super().__init__()
        hop, self.channels, self.power = self.hop, options.channels, options.power
        self.register_buffer("window", mdct.sine_window(hop).float())
        self.register_buffer("weight", torch.ones(hop))
        self.analysis = nn.Parameter(torch.eye(self.channels, hop))
        self.synthesis = nn.Parameter(torch.eye(hop, self.channels))
        self.encoder = FrameStack(hop, self.channels, options)
        self.decoder = FrameStack(self.channels, hop, options)

    @classmethod
    def of(cls, options: StrictModel) -> Self:
        assert isinstance(options, LappedOptions)
        return cls(options)

    @classmethod
    def inherited(cls, tensors: dict[str, Tensor], power: float) -> dict[str, Any]:
        return {"channels": tensors["basis"].shape[1], "power": power}

    @torch.no_grad()
    def begin(self, tensors: dict[str, Tensor]) -> None:
        """Set window, weight and projections to those of a fitted `pvt` with `tensors`; the stacks are not changed."""
        self.get_buffer("window").copy_(tensors["window"])
        self.get_buffer("weight").copy_(tensors["weight"])
        self.analysis.copy_(tensors["basis"].T)
        self.synthesis.copy_(tensors["basis"])

    def encode(self, audio: Tensor) -> Tensor:
        lapped, weight = self._lapped(), self.get_buffer("weight")
        coefficients = mdct.analyse(audio.float(), lapped * weight)
        projected = radial_power(self.analysis @ coefficients, self.power)
        return projected + self.encoder(radial_power(coefficients, self.power))

    def decode(self, latents: Tensor) -> Tensor:
        lapped, weight, window = self._lapped(), self.get_buffer("weight"), self.get_buffer("window")
        companded = self.synthesis @ latents.float() + self.decoder(latents.float())
        return mdct.synthesise(radial_power(companded, 1 / self.power), lapped / weight, window)

    def _lapped(self) -> Tensor:
        window = self.get_buffer("window")
        return mdct.kernel(window.double()).to(window)

"""`phaseless` with networks around its matrices.

B clips, F bins, D latent channels, T frames. Latents are the sum of two terms: the projection of companded magnitudes,
as in `phaseless`, and the output of a stack over those of neighbouring frames. Decoded companded magnitudes are the
latents projected back plus the output of another stack. The stacks give zero before training. The phase is found as
`phaseless` finds it (`data_specs/codecs/phase.py`), so losses compare magnitudes.
"""

from typing import Any, Self

import torch
from torch import Tensor, nn

from data_specs.codecs.networks.base import CodecNetwork, FrameStack, StackOptions
from data_specs.codecs.phase import with_phase
from data_specs.codecs.phaseless import ITERATIONS, compressed
from data_specs.strict import StrictModel


class MagnitudeOptions(StackOptions):
    """Sizes of the two stacks, number of latent channels, window length, and exponent of the companding."""

    channels: int = 128
    size: int = 1024  # samples of the window
    power: float = 0.35


class MagnitudeNetwork(CodecNetwork):
    """Frame-rate network that equals `phaseless` after `begin` and before training."""

    kind = "magnitudes"
    Options = MagnitudeOptions
    phase = False
    one_scale = True
    begins_as = "phaseless"

    def __init__(self, options: MagnitudeOptions) -> None:
        super().__init__()
        bins, self.channels, self.power = options.size // 2 + 1, options.channels, options.power
        self.register_buffer("window", torch.hann_window(options.size))
        self.analysis = nn.Parameter(torch.eye(self.channels, bins))
        self.synthesis = nn.Parameter(torch.eye(bins, self.channels))
        self.encoder = FrameStack(bins, self.channels, options)
        self.decoder = FrameStack(self.channels, bins, options)

    @classmethod
    def of(cls, options: StrictModel) -> Self:
        assert isinstance(options, MagnitudeOptions)
        return cls(options)

    @classmethod
    def inherited(cls, tensors: dict[str, Tensor], power: float) -> dict[str, Any]:
        return {"channels": tensors["basis"].shape[1], "size": len(tensors["window"]), "power": power}

    @torch.no_grad()
    def begin(self, tensors: dict[str, Tensor]) -> None:
        """Set window and projections to those of a fitted `phaseless` with `tensors`; the stacks are not changed."""
        basis, scale = tensors["basis"].double(), tensors["scale"].double()
        self.get_buffer("window").copy_(tensors["window"])
        self.analysis.copy_((basis * scale).T)
        self.synthesis.copy_(basis / scale)

    def compress(self, audio: Tensor) -> Tensor:
        """Return the companded magnitudes, float32 [B, F, T], of audio [B, 1, N]."""
        window = self.get_buffer("window")
        return torch.stack([compressed(clip, window, self.hop, self.power).T for clip in audio[:, 0]])

    def restore(self, latents: Tensor) -> Tensor:
        """Return the companded magnitudes [B, F, T] of latents [B, D, T]; `decode` sets values below 0 to 0."""
        restored: Tensor = self.synthesis @ latents.float() + self.decoder(latents.float())
        return restored

    def encode(self, audio: Tensor) -> Tensor:
        companded = self.compress(audio)
        latents: Tensor = self.analysis @ companded + self.encoder(companded)
        return latents

    def decode(self, latents: Tensor) -> Tensor:
        magnitudes = self.restore(latents).clamp(min=0).pow(1 / self.power).transpose(1, 2)
        window = self.get_buffer("window")
        return torch.stack([with_phase(clip, window, self.hop, ITERATIONS) for clip in magnitudes])[:, None]

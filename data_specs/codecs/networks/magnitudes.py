"""`phaseless` with networks around its matrices; what a stack over frames adds is zero before training.

B clips, F bins, D latent channels, T frames. The latents are those of `phaseless`, the projection of companded
magnitudes, and what a stack makes of them and their neighbours; the decoder's stack corrects the magnitudes.
The phase is found as `phaseless` finds it (`data_specs/codecs/phase.py`), so losses compare magnitudes.
"""

from typing import Any, Self

import torch
from torch import Tensor, nn

from data_specs.codecs.networks.base import CodecNetwork, FrameStack, StackOptions
from data_specs.codecs.phase import with_phase
from data_specs.codecs.phaseless import ITERATIONS, compressed
from data_specs.strict import StrictModel


class MagnitudeOptions(StackOptions):
    """Sizes, and the power of the companding."""

    channels: int = 128
    size: int = 1024  # samples of the window
    power: float = 0.35


class MagnitudeNetwork(CodecNetwork):
    """Frame-rate network that equals `phaseless` before training."""

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
        """Copy `window`, `basis` and `scale` of a fitted `phaseless`; the stacks stay at zero."""
        basis, scale = tensors["basis"].double(), tensors["scale"].double()
        self.get_buffer("window").copy_(tensors["window"])
        self.analysis.copy_((basis * scale).T)
        self.synthesis.copy_(basis / scale)

    def compress(self, audio: Tensor) -> Tensor:
        """Return the companded magnitudes of [B, 1, N], float32 [B, F, T]."""
        window = self.get_buffer("window")
        return torch.stack([compressed(clip, window, self.hop, self.power).T for clip in audio[:, 0]])

    def restore(self, latents: Tensor) -> Tensor:
        """Return the companded magnitudes [B, F, T] of [B, D, T]; `decode` takes values below zero for silence."""
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

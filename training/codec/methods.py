"""Kinds of codecs in closed form: frames, principal directions and tensors of each.

N samples, D latent channels, T frames, C coefficients of a frame before they are reduced to D.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from data_specs.codecs import mdct
from data_specs.codecs.fitted import FittedCodec
from data_specs.codecs.phaseless import PhaselessCodec, compressed
from data_specs.codecs.pvt import PvtCodec

WINDOWS: dict[str, Callable[[], Tensor]] = {
    "sine": mdct.sine_window,
    "vorbis": mdct.vorbis_window,
    "kaiser_bessel_4": lambda: mdct.kaiser_bessel_window(4.0),
}


@dataclass(frozen=True, kw_only=True)
class Method(ABC):
    """Options of one kind of codec in closed form; the defaults are those of the shipped weights."""

    codec: ClassVar[type[FittedCodec]]
    power: float = 0.35  # exponent of the companding; 1 for none
    channels: int = 128
    codebooks: int = 16
    bins: int = 1024
    frames: int = 262_144  # latents sampled for k-means, 512 bytes each
    iterations: int = 15
    seed: int = 0

    @abstractmethod
    def spectrum(self, audio: Tensor) -> Tensor:
        """Return the frames of a clip [1, 1, N], float32 [C, T]; `fit` computes their second moments."""

    @abstractmethod
    def tensors(self, moments: Tensor) -> dict[str, Tensor]:
        """Return the tensors of the codec by name, without `codebooks`.

        Args:
            moments: second moments of the frames `spectrum` of all clips, float64 [C, C].
        """


@dataclass(frozen=True, kw_only=True)
class PvtMethod(Method):
    """Kind `pvt`: principal directions of MDCT coefficients, each multiplied by a weight."""

    codec = PvtCodec
    window: str = "sine"
    weighting: float = 0.0  # exponent g: coefficient k is weighted by its variance to the power -g / 2

    def spectrum(self, audio: Tensor) -> Tensor:
        return mdct.analyse(audio, mdct.kernel(WINDOWS[self.window]()).float())[0]

    def tensors(self, moments: Tensor) -> dict[str, Tensor]:
        weight = _weight(moments.diagonal(), self.weighting)
        basis, _ = _principal(moments * weight[:, None] * weight[None, :], self.channels)
        return {"window": WINDOWS[self.window]().float(), "weight": weight.float(), "basis": basis.float()}


@dataclass(frozen=True, kw_only=True)
class PhaselessMethod(Method):
    """Kind `phaseless`: principal directions of companded STFT magnitudes, each scaled by a power of its RMS."""

    codec = PhaselessCodec
    size: int = 1024  # samples of the window
    tilt: float = 0.5  # exponent g: direction i is scaled by its root mean square to the power -g

    def spectrum(self, audio: Tensor) -> Tensor:
        return compressed(audio[0, 0], torch.hann_window(self.size), PhaselessCodec.hop, self.power).T

    def tensors(self, moments: Tensor) -> dict[str, Tensor]:
        basis, strength = _principal(moments, self.channels)
        scale = strength.clamp(min=float(strength.max()) * 1e-4).pow(-self.tilt)
        return {"window": torch.hann_window(self.size), "basis": basis.float(), "scale": scale.float()}


METHODS: dict[str, type[Method]] = {"pvt": PvtMethod, "phaseless": PhaselessMethod}


def _weight(variance: Tensor, exponent: float) -> Tensor:
    """Return weights [C] of geometric mean 1, proportional to `variance` [C] to the power -exponent / 2.

    A variance more than 80 dB below the largest is replaced by that limit.
    """
    weight = variance.clamp(min=float(variance.max()) * 1e-8).pow(-exponent / 2)
    return weight / weight.log().mean().exp()


def _principal(moments: Tensor, channels: int) -> tuple[Tensor, Tensor]:
    """Return principal directions [C, D] of `moments` [C, C] and the RMS of frames along each [D], largest first.

    D = `channels`. The component of largest magnitude of each direction is positive.
    """
    values, vectors = torch.linalg.eigh(moments)
    chosen = vectors.flip(1)[:, :channels]
    peaks = chosen.gather(0, chosen.abs().argmax(0, keepdim=True))
    return chosen * peaks.sign(), values.flip(0)[:channels].clamp(min=0).sqrt()

"""Interface of codecs. B batch, K codebooks, D latent channels, T frames, N samples."""

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Self

from torch import Tensor

from data_specs.errors import UserError


class Codec(ABC):
    """24 kHz mono audio <-> latents [B, D, T] <-> codes [B, K, T].

    Weights are frozen and move to the device of the input. `decode` is differentiable with respect to its input.
    """

    name: str
    hop: int = 320
    channels: int = 128  # D
    bins: int = 1024  # entries of a codebook
    max_codebooks: int
    one_scale: bool = False  # whether the relative size of latent channels is information
    seconds_per_clip: float | None = None  # processor time to encode, for the printed estimate; None for the format's
    prefers_gpu: bool = False  # whether to encode on a GPU if there is one, since a CPU is slow
    licence: str  # of the weights, for dataset.json and README

    @classmethod
    @abstractmethod
    def pretrained(cls) -> Self:
        """Return the codec with its own weights, shipped or downloaded at first use.

        Raises:
            UserError: the download fails.
        """

    @classmethod
    @abstractmethod
    def load(cls, path: Path) -> Self:
        """Return the codec with the weights of a file. Nothing in the file is executed.

        Raises:
            UserError: not a weights file of this codec.
        """

    @classmethod
    @abstractmethod
    def missing(cls) -> str:
        """Return what `pretrained` lacks on this machine, with the remedy; empty if nothing must be fetched."""

    @property
    @abstractmethod
    def digest(self) -> str:
        """SHA-256 of the weights file, hex."""

    @abstractmethod
    def encode(self, audio: Tensor) -> Tensor:
        """Encode float32 [B, 1, N], N a multiple of the hop, to unquantized latents, float32 [B, D, N / hop]."""

    @abstractmethod
    def quantize(self, latents: Tensor, codebooks: int) -> Tensor:
        """Quantize [B, D, T] to codes of the first `codebooks` codebooks, int64 [B, K, T] in 0..bins-1."""

    @abstractmethod
    def dequantize(self, codes: Tensor) -> Tensor:
        """Return the latents, float32 [B, D, T], of codes int64 [B, K, T] with any K up to `max_codebooks`."""

    @abstractmethod
    def decode(self, latents: Tensor) -> Tensor:
        """Decode [B, D, T] to audio, float32 [B, 1, T * hop]; differentiable."""

    def frames(self, samples: int) -> int:
        """Return the number of frames T of `samples` samples.

        Raises:
            UserError: not a positive multiple of the hop.
        """
        if samples <= 0 or samples % self.hop:
            raise UserError(f"a clip of {samples} samples does not divide into frames of {self.hop}; cut or pad it")
        return samples // self.hop

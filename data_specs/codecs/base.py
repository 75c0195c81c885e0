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
            UserError: a package or the shipped file is missing, or the download fails.
        """

    @classmethod
    @abstractmethod
    def load(cls, path: Path) -> Self:
        """Return the codec with the weights of a file. Nothing in the file is executed.

        Raises:
            UserError: not a complete weights file of this codec.
        """

    @classmethod
    @abstractmethod
    def missing(cls) -> str:
        """Return a sentence on the file that `pretrained` lacks on this machine; empty if nothing is missing."""

    @property
    @abstractmethod
    def digest(self) -> str:
        """SHA-256 of the weights file, hex; empty for a codec that was not loaded from one."""

    @abstractmethod
    def encode(self, audio: Tensor) -> Tensor:
        """Encode float32 [B, 1, N] to unquantized latents, float32 [B, D, N / hop].

        Raises:
            UserError: N is not a positive multiple of the hop.
        """

    @abstractmethod
    def quantize(self, latents: Tensor, codebooks: int) -> Tensor:
        """Quantize latents [B, D, T] with the first `codebooks` codebooks to codes, int64 [B, K, T] in 0..bins-1.

        Raises:
            UserError: `codebooks` is not in 1..max_codebooks.
        """

    @abstractmethod
    def dequantize(self, codes: Tensor) -> Tensor:
        """Return the latents, float32 [B, D, T], of codes int64 [B, K, T].

        Raises:
            UserError: K is not in 1..max_codebooks.
        """

    @abstractmethod
    def decode(self, latents: Tensor) -> Tensor:
        """Decode latents [B, D, T] to audio, float32 [B, 1, T * hop]; differentiable."""

    def frames(self, samples: int) -> int:
        """Return the number of frames T of `samples` samples.

        Raises:
            UserError: `samples` is not a positive multiple of the hop.
        """
        if samples <= 0 or samples % self.hop:
            raise UserError(f"a clip of {samples} samples does not divide into frames of {self.hop}; cut or pad it")
        return samples // self.hop

"""The interface every codec has. K codebooks, D latent channels, T frames, N samples."""

from abc import ABC, abstractmethod

from torch import Tensor


class Codec(ABC):
    """24 kHz mono audio <-> latents [B, D, T] <-> codes [B, K, T]. Weights are frozen; nothing here trains."""

    name: str
    hop: int = 320
    channels: int = 128  # D
    bins: int = 1024  # entries of a codebook
    max_codebooks: int
    licence: str  # of the weights, for dataset.json and README

    @property
    @abstractmethod
    def digest(self) -> str:
        """SHA-256 of the weights, hex."""

    @abstractmethod
    def encode(self, audio: Tensor) -> Tensor:
        """float32 [B, 1, N], N a multiple of the hop -> latents before quantisation, float32 [B, D, N / hop]."""

    @abstractmethod
    def quantize(self, latents: Tensor, codebooks: int) -> Tensor:
        """[B, D, T] -> codes of the first `codebooks` codebooks, int64 [B, K, T] in 0..bins-1."""

    @abstractmethod
    def dequantize(self, codes: Tensor) -> Tensor:
        """int64 [B, K, T], any K up to `max_codebooks` -> latents, float32 [B, D, T]."""

    @abstractmethod
    def decode(self, latents: Tensor) -> Tensor:
        """[B, D, T] -> audio, float32 [B, 1, T * hop]; differentiable."""

"""Trainable residual vector quantization (van den Oord et al. 2017; Zeghidour et al. 2021, algorithm 1).

B clips, D latent channels, T frames, K codebooks of M entries. Entry 0 of every codebook is fixed at zero, so that
silence stays silent.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from training.codec.kmeans import nearest

SMALLEST = 1e-8  # scale of a codebook of zeros


class Quantized(NamedTuple):
    """Result of quantization.

    Attributes:
        latents: [B, D, T], with the gradient of the input (straight-through).
        commitment: [B], mean squared distance to the chosen entries, with gradients of the latents.
        codebook: [B], the same value, with gradients of the entries.
    """

    latents: Tensor
    commitment: Tensor
    codebook: Tensor


class TrainedQuantizer(nn.Module):
    """Codebooks as parameters, each in units of its root mean square, so that one learning rate suits all."""

    def __init__(self, codebooks: int, bins: int, channels: int) -> None:
        super().__init__()
        self.entries = nn.Parameter(torch.zeros(codebooks, bins - 1, channels))
        self.register_buffer("scale", torch.ones(codebooks, 1, 1))
        self.register_buffer("ready", torch.zeros((), dtype=torch.bool))

    @torch.no_grad()
    def initialize(self, codebooks: Tensor) -> None:
        """Set the codebooks to float32 [K, M, D], whose entries 0 are zero."""
        scale = codebooks[:, 1:].square().mean((1, 2), keepdim=True).sqrt().clamp(min=SMALLEST)
        self.get_buffer("scale").copy_(scale)
        self.entries.copy_(codebooks[:, 1:] / scale)
        self.get_buffer("ready").fill_(True)

    @property
    def initialized(self) -> bool:
        """Whether codebooks have been set."""
        return bool(self.get_buffer("ready"))

    @property
    def codebooks(self) -> Tensor:
        """Codebooks [K, M, D]."""
        return nn.functional.pad(self.entries * self.get_buffer("scale"), (0, 0, 1, 0))

    def forward(self, latents: Tensor, count: int) -> Quantized:
        """Quantize [B, D, T] by the first `count` codebooks; 0 returns the latents unchanged."""
        none = latents.new_zeros(len(latents))
        if count == 0:  # DistributedDataParallel needs a gradient of every parameter
            return Quantized(latents, none, none + 0.0 * self.entries.sum())
        residual, total = latents.transpose(1, 2), torch.zeros_like(latents)
        commitment, codebook = none, none + 0.0 * self.entries.sum()
        for entries in self.codebooks[:count]:
            with torch.no_grad():
                index = nearest(residual.flatten(0, 1), entries)[0].view(residual.shape[:2])
            chosen = nn.functional.embedding(index, entries)
            fixed = chosen.detach()
            commitment = commitment + (residual - fixed).square().mean((1, 2))
            codebook = codebook + (residual.detach() - chosen).square().mean((1, 2))
            residual, total = residual - fixed, total + fixed.transpose(1, 2)
        return Quantized(latents + (total - latents).detach(), commitment, codebook)

"""Trainable residual vector quantization (van den Oord et al. 2017; Zeghidour et al. 2021, algorithm 1).

Entry 0 of every codebook is fixed at zero, so that silence is decoded as silence. B clips, D latent channels, T frames,
K codebooks of M entries.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as nnf
from torch import Tensor, nn

from training.codec.kmeans import nearest

SMALLEST = 1e-8  # smallest scale of a codebook


class Quantized(NamedTuple):
    """Result of quantization.

    Attributes:
        latents: quantized latents [B, D, T]; the gradient passes to the input unchanged (straight-through).
        commitment: squared distance of the residual to the chosen entry, mean over D and T, summed over codebooks [B];
            gradients reach the latents only.
        codebook: the same value [B]; gradients reach the entries only.
    """

    latents: Tensor
    commitment: Tensor
    codebook: Tensor


class TrainedQuantizer(nn.Module):
    """K = `codebooks` codebooks of M = `bins` entries of D = `channels` values; entry 0 of each is fixed at zero.

    The parameter `entries` [K, M - 1, D] holds the others, those of each codebook divided by their initial RMS, so that
    all can have the same learning rate. They are zero until `initialize` is called or a state is loaded.
    """

    def __init__(self, codebooks: int, bins: int, channels: int) -> None:
        super().__init__()
        self.entries = nn.Parameter(torch.zeros(codebooks, bins - 1, channels))
        self.register_buffer("scale", torch.ones(codebooks, 1, 1))
        self.register_buffer("ready", torch.zeros((), dtype=torch.bool))

    @torch.no_grad()
    def initialize(self, codebooks: Tensor) -> None:
        """Set the codebooks to float32 [K, M, D] with entries 0 zero, and each scale to the RMS of other entries."""
        scale = codebooks[:, 1:].square().mean((1, 2), keepdim=True).sqrt().clamp(min=SMALLEST)
        self.get_buffer("scale").copy_(scale)
        self.entries.copy_(codebooks[:, 1:] / scale)
        self.get_buffer("ready").fill_(True)

    @property
    def initialized(self) -> bool:
        """Whether `initialize` has set the codebooks, in this run or before the state that was loaded."""
        return bool(self.get_buffer("ready"))

    @property
    def codebooks(self) -> Tensor:
        """Codebooks [K, M, D] on the scale of the latents; entry 0 of each is zero."""
        return nnf.pad(self.entries * self.get_buffer("scale"), (0, 0, 1, 0))

    def forward(self, latents: Tensor, count: int) -> Quantized:
        """Replace each frame of latents [B, D, T] by the sum of an entry of each of the first `count` codebooks.

        The entry of a codebook is the nearest one to what the codebooks before it leave. For a `count` of 0 the latents
        are unchanged and the losses are 0.
        """
        none = latents.new_zeros(len(latents))
        if count == 0:  # DistributedDataParallel needs a gradient of every parameter
            return Quantized(latents, none, none + 0.0 * self.entries.sum())
        residual, total = latents.transpose(1, 2), torch.zeros_like(latents)
        commitment, codebook = none, none + 0.0 * self.entries.sum()
        for entries in self.codebooks[:count]:
            with torch.no_grad():
                index = nearest(residual.flatten(0, 1), entries)[0].view(residual.shape[:2])
            chosen = nnf.embedding(index, entries)
            fixed = chosen.detach()
            commitment = commitment + (residual - fixed).square().mean((1, 2))
            codebook = codebook + (residual.detach() - chosen).square().mean((1, 2))
            residual, total = residual - fixed, total + fixed.transpose(1, 2)
        return Quantized(latents + (total - latents).detach(), commitment, codebook)

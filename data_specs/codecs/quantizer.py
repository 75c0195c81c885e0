"""Residual vector quantization (Zeghidour et al. 2021, SoundStream, algorithm 1).

B batch, D latent channels, T frames, K codebooks of M entries.
"""

from typing import Self

import torch
from torch import Tensor

from data_specs.errors import UserError


class ResidualQuantizer:
    """Residual quantizer: each codebook encodes what the codebooks before it leave, by its nearest entry (Euclidean).

    Clips are searched one by one, so that codes do not depend on the batch: matrix products with another number of rows
    round differently.
    """

    def __init__(self, codebooks: Tensor) -> None:
        """Keep `codebooks`, float32 [K, M, D], in the order in which they encode."""
        self.codebooks = codebooks.contiguous()
        self._half_norms = codebooks.square().sum(-1) / 2

    def to(self, device: torch.device) -> Self:
        """Move the codebooks to `device` in place; return this quantizer."""
        self.codebooks = self.codebooks.to(device)
        self._half_norms = self._half_norms.to(device)
        return self

    def encode(self, latents: Tensor, codebooks: int) -> Tensor:
        """Encode latents [B, D, T] with the first `codebooks` codebooks to int64 [B, codebooks, T] in 0..M-1.

        Raises:
            UserError: `codebooks` is below 1 or above K.
        """
        self._check(codebooks)
        clips = [self._search(clip.T.contiguous(), codebooks) for clip in latents.float()]
        return torch.stack(clips) if clips else latents.new_zeros((0, codebooks, latents.shape[-1]), dtype=torch.int64)

    def decode(self, codes: Tensor) -> Tensor:
        """Decode int64 [B, K', T] to float32 [B, D, T], the sum of the entries of the first K' codebooks.

        Raises:
            UserError: K' is below 1 or above the number of codebooks.
        """
        self._check(codes.shape[1])
        total = torch.nn.functional.embedding(codes[:, 0], self.codebooks[0])
        for index in range(1, codes.shape[1]):
            total = total + torch.nn.functional.embedding(codes[:, index], self.codebooks[index])
        return total.transpose(1, 2)

    def _search(self, residual: Tensor, codebooks: int) -> Tensor:
        """Encode the vectors `residual` [T, D] to int64 [codebooks, T].

        The nearest entry e to r minimizes |e|^2 / 2 - e . r; |r|^2 is the same for all entries.
        """
        chosen = []
        for entries, half_norms in zip(self.codebooks[:codebooks], self._half_norms, strict=False):
            nearest = torch.addmm(half_norms, residual, entries.T, alpha=-1).argmin(1)
            chosen.append(nearest)
            residual = residual - entries[nearest]
        return torch.stack(chosen)

    def _check(self, codebooks: int) -> None:
        if not 1 <= codebooks <= len(self.codebooks):
            raise UserError(f"the number of codebooks must be 1 to {len(self.codebooks)}, got {codebooks}")

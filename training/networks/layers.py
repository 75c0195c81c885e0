"""Layers shared by the networks, in one or two dimensions. B batch, C channels, F bins, T frames, E embedding.

A map is [B, C, T] (`dims` 1) or [B, C, F, T] (`dims` 2).
"""

import math

import torch
import torch.nn.functional as nnf
from torch import Tensor, nn

CONVOLUTIONS = {1: nn.Conv1d, 2: nn.Conv2d}


def convolution(dims: int, c_in: int, c_out: int, kernel: int = 3, stride: int = 1) -> nn.Module:
    """A convolution that keeps the length (divides it by `stride`), zero-padded."""
    return CONVOLUTIONS[dims](c_in, c_out, kernel, stride, padding=kernel // 2)


def zeroed(module: nn.Module) -> nn.Module:
    """`module` with all parameters 0, so that a residual path starts as the identity and an output as 0."""
    for parameter in module.parameters():
        nn.init.zeros_(parameter)
    return module


class Norm(nn.GroupNorm):
    """Group normalisation with one group (over channels and positions), computed in the dtype of its input.

    Autocast would compute and keep it in float32, which doubles the activations of a U-Net; the kernels sum in
    float32 whatever the input.
    """

    def __init__(self, channels: int) -> None:
        super().__init__(1, channels)

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):
            return nnf.group_norm(x, 1, self.weight.to(x.dtype), self.bias.to(x.dtype), self.eps)


class NoiseEmbedding(nn.Module):
    """Noise conditioning scalar [B] -> [B, E]: sines and cosines of geometric frequencies, then a two-layer MLP.

    Frequencies from 1/8 to 32 suit a scalar of order one, such as ln(sigma) / 4 of Karras et al. 2022 (table 1).
    """

    frequencies: Tensor

    def __init__(self, embedding: int, features: int = 64) -> None:
        super().__init__()
        self.register_buffer("frequencies", fourier_frequencies(features // 2), persistent=False)
        self.mlp = nn.Sequential(nn.Linear(features, embedding), nn.SiLU(), nn.Linear(embedding, embedding), nn.SiLU())

    def forward(self, c_noise: Tensor) -> Tensor:
        embedded: Tensor = self.mlp(fourier_features(c_noise, self.frequencies))
        return embedded


def fourier_frequencies(count: int) -> Tensor:
    """[count] geometric frequencies from 1/8 to 32."""
    return torch.logspace(-3, 5, count, base=2.0)


def fourier_features(c_noise: Tensor, frequencies: Tensor) -> Tensor:
    """[B] -> float32 [B, 2 * len(frequencies)], of unit variance."""
    phase = 2 * math.pi * c_noise.float()[:, None] * frequencies
    return math.sqrt(2) * torch.cat([phase.cos(), phase.sin()], dim=1)


def modulate(x: Tensor, scale_shift: Tensor) -> Tensor:
    """Affine modulation of channels (FiLM, Perez et al. 2017, eq. 2): x [B, C, ...], scale_shift [B, 2C]."""
    scale, shift = scale_shift.view(*scale_shift.shape, *(1,) * (x.ndim - 2)).chunk(2, dim=1)
    return torch.addcmul(x + shift, x, scale)


class Block(nn.Module):
    """Two convolutions with a modulation by the noise embedding between them, and a residual path.

    With `embedding` None there is no modulation (control branches, which know nothing of noise).
    """

    def __init__(self, dims: int, c_in: int, c_out: int, embedding: int | None) -> None:
        super().__init__()
        self.norm1, self.norm2 = Norm(c_in), Norm(c_out)
        self.conv1 = convolution(dims, c_in, c_out)
        self.conv2 = zeroed(convolution(dims, c_out, c_out))
        self.modulation = nn.Linear(embedding, 2 * c_out) if embedding is not None else None
        self.residual = convolution(dims, c_in, c_out, kernel=1) if c_in != c_out else nn.Identity()

    def forward(self, x: Tensor, embedded: Tensor | None = None) -> Tensor:
        """[B, C_in, ...] and [B, E] -> [B, C_out, ...]."""
        h = self.norm2(self.conv1(nnf.silu(self.norm1(x))))
        if self.modulation is not None:
            h = modulate(h, self.modulation(embedded).to(h.dtype))
        mapped: Tensor = self.residual(x) + self.conv2(nnf.silu(h))
        return mapped


class Attention(nn.Module):
    """Self-attention over all positions of a map (Vaswani et al. 2017, eq. 1), added to its input.

    Heads have 64 channels where the channels divide by 64, else there is one.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.heads = channels // 64 if channels % 64 == 0 else 1
        self.norm = Norm(channels)
        self.qkv = nn.Conv1d(channels, 3 * channels, 1)
        self.out = zeroed(nn.Conv1d(channels, channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        flat = self.norm(x).flatten(2)
        q, k, v = self.qkv(flat).unflatten(1, (3, self.heads, -1)).transpose(-1, -2).unbind(1)
        attended = nnf.scaled_dot_product_attention(q, k, v).transpose(-1, -2).flatten(1, 2)
        added: Tensor = x + self.out(attended).view_as(x)
        return added


class Upsample(nn.Module):
    """Twice the positions by repetition, then a convolution."""

    def __init__(self, dims: int, channels: int) -> None:
        super().__init__()
        self.conv = convolution(dims, channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        wider: Tensor = self.conv(nnf.interpolate(x, scale_factor=2.0, mode="nearest"))
        return wider


def padded(x: Tensor, multiple: int, mode: str = "constant") -> Tensor:
    """[B, C, ...] with zeros (or, `mode` "replicate", its last value) appended to the next multiple in every axis."""
    pads: list[int] = []
    for length in reversed(x.shape[2:]):
        pads += [0, -length % multiple]
    return nnf.pad(x, pads, mode=mode) if any(pads) else x


def cropped(x: Tensor, lengths: tuple[int, ...]) -> Tensor:
    """[B, C, ...] with its positions cut back to `lengths`: the inverse of `padded`."""
    for axis, length in enumerate(lengths, start=2):
        x = x.narrow(axis, 0, length)
    return x


def folded(x: Tensor, patch: int) -> Tensor:
    """[B, C, L1, ...] -> [B, C * patch ** dims, L1 / patch, ...]: neighbouring positions become channels."""
    if patch > 1:
        for axis in range(2, x.ndim):
            x = x.unflatten(axis, (-1, patch)).movedim(axis + 1, 2).flatten(1, 2)
    return x


def unfolded(x: Tensor, patch: int) -> Tensor:
    """The inverse of `folded`."""
    if patch > 1:
        for axis in reversed(range(2, x.ndim)):
            x = x.unflatten(1, (-1, patch)).movedim(2, axis + 1).flatten(axis, axis + 1)
    return x

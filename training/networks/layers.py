"""Layers of the networks. B clips, C channels, F bins, T frames, N = F * T positions, E embedding size.

A map is [B, C, F, T] in channels-last memory, with F = 1 for one-dimensional data. Layers compute in the dtype of the
map: float32, or bfloat16 with weights cast at each call. Norm statistics and noise embeddings stay float32.
"""

import math
from typing import Any, ClassVar

import torch
import torch.nn.functional as nnf
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from data_specs.arrays import Shape


class Renamed(nn.Module):
    """Module that also loads state dicts in which submodules have their names of earlier versions."""

    former_names: ClassVar[dict[str, str]] = {}

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        for key in list(state_dict):
            head, _, tail = key.removeprefix(prefix).partition(".")
            if key.startswith(prefix) and head in self.former_names:
                state_dict[f"{prefix}{self.former_names[head]}.{tail}"] = state_dict.pop(key)
        super()._load_from_state_dict(state_dict, prefix, *args)


class _MapConvolution(nn.modules.conv._ConvNd):
    def forward(self, x: Tensor) -> Tensor:
        weight, bias = self.weight.to(x.dtype), None if self.bias is None else self.bias.to(x.dtype)
        if weight.ndim == 3:
            return nnf.conv2d(x, weight.unsqueeze(2), bias, (1, self.stride[0]), (0, int(self.padding[0])))
        return nnf.conv2d(x, weight, bias, self.stride, self.padding)


class Conv1d(_MapConvolution, nn.Conv1d):
    """Convolution over the frames of a map; its parameters are those of `nn.Conv1d`."""


class Conv2d(_MapConvolution, nn.Conv2d):
    """Convolution over the bins and frames of a map; its parameters are those of `nn.Conv2d`."""


def convolution(dims: int, c_in: int, c_out: int, kernel: int = 3, stride: int = 1) -> Conv1d | Conv2d:
    """Return a zero-padded convolution that keeps the lengths, or divides them by `stride`."""
    return (Conv1d if dims == 1 else Conv2d)(c_in, c_out, kernel, stride, padding=kernel // 2)


def zeroed(module: nn.Module) -> nn.Module:
    """Set all parameters of a module to 0, and return it."""
    for parameter in module.parameters():
        nn.init.zeros_(parameter)
    return module


def as_map(x: Tensor, dtype: torch.dtype) -> Tensor:
    """Convert [B, C, T] or [B, C, F, T] to a map."""
    x = x.unsqueeze(2) if x.ndim == 3 else x
    return x.to(dtype).contiguous(memory_format=torch.channels_last)


def positions_first(x: Tensor) -> Tensor:
    """View a map [B, C, F, T] as [B, N, C]."""
    return x.permute(0, 2, 3, 1).flatten(1, 2)


def channels_first(flat: Tensor, like: Tensor) -> Tensor:
    """View [B, N, C] as a map with the F and T of `like`."""
    return flat.unflatten(1, like.shape[2:]).permute(0, 3, 1, 2)


class _NormSiLU(torch.autograd.Function):
    """SiLU(alpha * normalize(x) + beta) of x [B, N, C] with alpha and beta [B, C], normalized over N and C together.

    Norm, affine map and activation are fused, which saves passes over memory, forward and backward.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, alpha: Tensor, beta: Tensor, eps: float) -> Tensor:
        normed, _, rstd = torch.native_layer_norm(x, x.shape[1:], None, None, eps)
        ctx.save_for_backward(normed, rstd, alpha, beta)
        return nnf.silu(torch.addcmul(beta.to(x.dtype)[:, None], normed, alpha.to(x.dtype)[:, None]), inplace=True)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        normed, rstd, alpha, beta = ctx.saved_tensors
        dtype, rstd = normed.dtype, rstd.view(-1, 1)
        affine = torch.addcmul(beta.to(dtype)[:, None], normed, alpha.to(dtype)[:, None])
        d_affine = torch.ops.aten.silu_backward(grad, affine)
        d_beta = d_affine.sum(1, dtype=alpha.dtype)
        d_alpha = (d_affine * normed).sum(1, dtype=alpha.dtype)
        values = normed[0].numel()
        mean = rstd * (d_beta * alpha).sum(1, keepdim=True) / values
        slope = rstd * (d_alpha * alpha).sum(1, keepdim=True) / values
        offset = torch.addcmul(-mean.to(dtype)[..., None], normed, -slope.to(dtype)[..., None])
        return torch.addcmul(offset, d_affine, (rstd * alpha).to(dtype)[:, None]), d_alpha, d_beta, None


class Norm(nn.Module):
    """Group normalization with one group (all channels and positions), with an affine map per channel."""

    eps = 1e-5

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(channels)), nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        """Normalize a map."""
        return nnf.group_norm(x, 1, self.weight.to(x.dtype), self.bias.to(x.dtype), self.eps)

    def silu(self, x: Tensor, scale_shift: Tensor | None = None) -> Tensor:
        """Normalize a map, modulate its channels and apply SiLU, in fused passes.

        Args:
            x: map [B, C, F, T].
            scale_shift: (scale - 1) and shift of FiLM (Perez et al. 2017, eq. 2), [B, 2C]; None for no modulation.
        """
        alpha, beta = self.weight.expand(x.shape[0], -1), self.bias.expand(x.shape[0], -1)
        if scale_shift is not None:
            scale, shift = scale_shift.chunk(2, dim=1)
            alpha, beta = alpha * (1 + scale), torch.addcmul(beta + shift, beta, scale)
        flat = _NormSiLU.apply(positions_first(x).contiguous(), alpha, beta, self.eps)
        return channels_first(flat, x)


class NoiseEmbedding(nn.Module):
    """Embedding [B, E] of the noise scalar [B]: Fourier features, then a two-layer MLP.

    The scalar must be of order one, such as ln(sigma) / 4 in Karras et al. 2022 (table 1).
    """

    frequencies: Tensor

    def __init__(self, embedding: int, features: int = 64) -> None:
        super().__init__()
        self.register_buffer("frequencies", fourier_frequencies(features // 2), persistent=False)
        self.mlp = nn.Sequential(nn.Linear(features, embedding), nn.SiLU(), nn.Linear(embedding, embedding), nn.SiLU())

    def forward(self, c_noise: Tensor) -> Tensor:
        return self.mlp(fourier_features(c_noise, self.frequencies))


def fourier_frequencies(count: int) -> Tensor:
    """Return [count] geometric frequencies from 1/8 to 32."""
    return torch.logspace(-3, 5, count, base=2.0)


def fourier_features(c_noise: Tensor, frequencies: Tensor) -> Tensor:
    """Return sines and cosines of the noise scalar [B], float32 [B, 2 * len(frequencies)], of unit variance."""
    phase = 2 * math.pi * c_noise.float()[:, None] * frequencies
    return math.sqrt(2) * torch.cat([phase.cos(), phase.sin()], dim=1)


def modulate(x: Tensor, scale_shift: Tensor) -> Tensor:
    """Apply FiLM (Perez et al. 2017, eq. 2) to a map; `scale_shift` is scale - 1 and shift, [B, 2C, F or 1, T or 1]."""
    scale, shift = scale_shift.to(x.dtype).chunk(2, dim=1)
    return torch.addcmul(x + shift, x, scale)


class Block(nn.Module):
    """Two convolutions with FiLM by the noise embedding between them, and a residual path.

    There is no FiLM if `embedding` is None, as in control branches.
    """

    def __init__(self, dims: int, c_in: int, c_out: int, embedding: int | None) -> None:
        super().__init__()
        self.norm1, self.norm2 = Norm(c_in), Norm(c_out)
        self.conv1 = convolution(dims, c_in, c_out)
        self.conv2 = zeroed(convolution(dims, c_out, c_out))
        self.modulation = nn.Linear(embedding, 2 * c_out) if embedding is not None else None
        self.residual = convolution(dims, c_in, c_out, kernel=1) if c_in != c_out else nn.Identity()

    def forward(self, x: Tensor, embedded: Tensor | None = None) -> Tensor:
        """Map a map [B, C_in, F, T] and the noise embedding [B, E] to [B, C_out, F, T]."""
        h = self.conv1(self.norm1.silu(x))
        h = self.norm2.silu(h, None if self.modulation is None else self.modulation(embedded))
        return self.residual(x) + self.conv2(h)


class Attention(nn.Module):
    """Self-attention over all positions of a map (Vaswani et al. 2017, eq. 1), added to its input.

    Heads have 64 channels if the number of channels is a multiple of 64; else there is one head.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.heads = channels // 64 if channels % 64 == 0 else 1
        self.norm = Norm(channels)
        self.qkv = convolution(1, channels, 3 * channels, kernel=1)
        self.out = zeroed(convolution(1, channels, channels, kernel=1))

    def forward(self, x: Tensor) -> Tensor:
        flat = positions_first(self.qkv(self.norm(x))).unflatten(2, (3, self.heads, -1))  # [B, N, 3, heads, D]
        q, k, v = (part.transpose(1, 2).contiguous() for part in flat.unbind(2))
        attended = nnf.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        return x + self.out(channels_first(attended, x))


class Upsample(nn.Module):
    """Repetition of each position twice along every axis, then a convolution."""

    def __init__(self, dims: int, channels: int) -> None:
        super().__init__()
        self.dims = dims
        self.conv = convolution(dims, channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        batch, channels, bins, frames = x.shape
        rows = 2 if self.dims == 2 else 1
        repeated = x.permute(0, 2, 3, 1)[:, :, None, :, None].expand(-1, -1, rows, -1, 2, -1)
        return self.conv(repeated.reshape(batch, rows * bins, 2 * frames, channels).permute(0, 3, 1, 2))


def padded(x: Tensor, multiples: Shape, mode: str = "constant") -> Tensor:
    """Pad the ends of the last axes to multiples of `multiples`, by zeros or (`mode` "replicate") the last values."""
    pads: list[int] = []
    for axis in range(1, len(multiples) + 1):
        pads += [0, -x.shape[-axis] % multiples[-axis]]
    return nnf.pad(x, pads, mode=mode) if any(pads) else x


def cropped(x: Tensor, lengths: Shape) -> Tensor:
    """Crop the positions of a map to `lengths` (F, T), the inverse of `padded`."""
    return x[:, :, : lengths[0], : lengths[1]]


def patchify(x: Tensor, sizes: tuple[int, int]) -> Tensor:
    """Move blocks of f x t positions to channels: [B, C, F, T] -> [B, C * f * t, F / f, T / t], `sizes` = (f, t)."""
    for axis, size in enumerate(sizes, start=2):
        if size > 1:
            x = x.unflatten(axis, (-1, size)).movedim(axis + 1, 2).flatten(1, 2)
    return x


def unpatchify(x: Tensor, sizes: tuple[int, int]) -> Tensor:
    """Move channels to positions, the inverse of `patchify`."""
    for axis, size in reversed(list(enumerate(sizes, start=2))):
        if size > 1:
            x = x.unflatten(1, (-1, size)).movedim(2, axis + 1).flatten(axis, axis + 1)
    return x

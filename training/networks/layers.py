"""Layers of the networks. B clips, C channels, F bins, T frames, N = F * T positions, E embedding size.

A map is a tensor [B, C, F, T] in channels-last memory, with F = 1 for one-dimensional data. Arguments `dims` are 1 for
data (C, T) and 2 for data (C, F, T). Layers compute in the dtype of the map: float32, or bfloat16 with weights cast at
each call. Norm statistics and noise embeddings are float32.
"""

import math
from typing import Any, ClassVar

import torch
import torch.nn.functional as nnf
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from data_specs.arrays import Shape


class Renamed(nn.Module):
    """Module that also loads state dicts in which submodules have their names of earlier versions.

    `former_names` maps a former name of a submodule to its present name.
    """

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
    """Convolution of a map over its frames, for each bin separately; its parameters are those of `nn.Conv1d`."""


class Conv2d(_MapConvolution, nn.Conv2d):
    """Convolution of a map over its bins and frames; its parameters are those of `nn.Conv2d`."""


def convolution(dims: int, c_in: int, c_out: int, kernel: int = 3, stride: int = 1) -> Conv1d | Conv2d:
    """Return a convolution of maps, zero-padded so that it keeps the lengths, or divides them by `stride`, rounded up.

    Args:
        dims: 1 for a convolution over frames, 2 for one over bins and frames.
        c_in, c_out: channels of the input and of the output.
        kernel: size of the kernel along each axis; must be odd.
        stride: stride along each axis.
    """
    return (Conv1d if dims == 1 else Conv2d)(c_in, c_out, kernel, stride, padding=kernel // 2)


def zeroed(module: nn.Module) -> nn.Module:
    """Set all parameters of `module` to 0 in place, and return it."""
    for parameter in module.parameters():
        nn.init.zeros_(parameter)
    return module


def as_map(x: Tensor, dtype: torch.dtype) -> Tensor:
    """Return `x` [B, C, T] or [B, C, F, T] as a map of `dtype`; F is 1 for [B, C, T]."""
    x = x.unsqueeze(2) if x.ndim == 3 else x
    return x.to(dtype).contiguous(memory_format=torch.channels_last)


def positions_first(x: Tensor) -> Tensor:
    """Return a map [B, C, F, T] as [B, N, C], frames fastest; a view if the memory is channels-last."""
    return x.permute(0, 2, 3, 1).flatten(1, 2)


def channels_first(flat: Tensor, like: Tensor) -> Tensor:
    """View `flat` [B, N, C] as a map with the F and T of the map `like`, the inverse of `positions_first`."""
    return flat.unflatten(1, like.shape[2:]).permute(0, 3, 1, 2)


class _NormSiLU(torch.autograd.Function):
    """SiLU(alpha * normalize(x) + beta) of x [B, N, C] with alpha and beta [B, C].

    normalize gives each clip mean 0 and variance 1 over N and C together, with `eps` added to the variance. It
    is fused with the other operations, forward and backward, which saves passes over memory.
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
    """Group normalization with one group, all channels and positions of a clip, then a scale and shift per channel."""

    eps = 1e-5

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(channels)), nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        """Return a map normalized, scaled and shifted, with the shape of `x`."""
        return nnf.group_norm(x, 1, self.weight.to(x.dtype), self.bias.to(x.dtype), self.eps)

    def silu(self, x: Tensor, scale_shift: Tensor | None = None) -> Tensor:
        """Return SiLU of `forward`, with FiLM of the channels before SiLU if `scale_shift` is given: a map like `x`.

        Args:
            x: map [B, C, F, T].
            scale_shift: FiLM (Perez et al. 2017, eq. 2), [B, 2C]: scale - 1 of each channel, then shift of each; None
                for no FiLM.
        """
        alpha, beta = self.weight.expand(x.shape[0], -1), self.bias.expand(x.shape[0], -1)
        if scale_shift is not None:
            scale, shift = scale_shift.chunk(2, dim=1)
            alpha, beta = alpha * (1 + scale), torch.addcmul(beta + shift, beta, scale)
        flat = _NormSiLU.apply(positions_first(x).contiguous(), alpha, beta, self.eps)
        return channels_first(flat, x)


class NoiseEmbedding(nn.Module):
    """Embedding, float32 [B, E], of the noise scalar [B]: Fourier features, then a two-layer MLP.

    The scalar must be of order one, such as ln(sigma) / 4 in Karras et al. 2022 (table 1).

    Args:
        embedding: size E of the embedding.
        features: number of Fourier features; must be even.
    """

    frequencies: Tensor

    def __init__(self, embedding: int, features: int = 64) -> None:
        super().__init__()
        self.register_buffer("frequencies", fourier_frequencies(features // 2), persistent=False)
        self.mlp = nn.Sequential(nn.Linear(features, embedding), nn.SiLU(), nn.Linear(embedding, embedding), nn.SiLU())

    def forward(self, c_noise: Tensor) -> Tensor:
        return self.mlp(fourier_features(c_noise, self.frequencies))


def fourier_frequencies(count: int) -> Tensor:
    """Return `count` frequencies from 1/8 to 32 in geometric progression, in periods per unit of the noise scalar."""
    return torch.logspace(-3, 5, count, base=2.0)


def fourier_features(c_noise: Tensor, frequencies: Tensor) -> Tensor:
    """Return cosines, then sines, of the noise scalar [B] times 2 pi `frequencies`: float32 [B, 2 * len(frequencies)].

    Both are multiplied by sqrt(2), which gives a variance of 1 over whole periods.
    """
    phase = 2 * math.pi * c_noise.float()[:, None] * frequencies
    return math.sqrt(2) * torch.cat([phase.cos(), phase.sin()], dim=1)


def modulate(x: Tensor, scale_shift: Tensor) -> Tensor:
    """Return scale * x + shift for a map `x` [B, C, F, T] (FiLM, Perez et al. 2017, eq. 2).

    `scale_shift` [B, 2C, F or 1, T or 1] has scale - 1 of each channel, then the shift of each.
    """
    scale, shift = scale_shift.to(x.dtype).chunk(2, dim=1)
    return torch.addcmul(x + shift, x, scale)


class Block(nn.Module):
    """Two convolutions, each after normalization and SiLU, and a residual path; the second is zero-initialized.

    FiLM by the noise embedding is applied before the SiLU of the second convolution.

    Args:
        dims: 1 or 2, as in `convolution`.
        c_in, c_out: channels of the input and of the output.
        embedding: size E of the noise embedding; None for no FiLM, as in control branches.
    """

    def __init__(self, dims: int, c_in: int, c_out: int, embedding: int | None) -> None:
        super().__init__()
        self.norm1, self.norm2 = Norm(c_in), Norm(c_out)
        self.conv1 = convolution(dims, c_in, c_out)
        self.conv2 = zeroed(convolution(dims, c_out, c_out))
        self.modulation = nn.Linear(embedding, 2 * c_out) if embedding is not None else None
        self.residual = convolution(dims, c_in, c_out, kernel=1) if c_in != c_out else nn.Identity()

    def forward(self, x: Tensor, embedded: Tensor | None = None) -> Tensor:
        """Return a map [B, c_out, F, T] for a map `x` [B, c_in, F, T] and the noise embedding [B, E].

        `embedded` must be given exactly if the block was built with an `embedding`.
        """
        h = self.conv1(self.norm1.silu(x))
        h = self.norm2.silu(h, None if self.modulation is None else self.modulation(embedded))
        return self.residual(x) + self.conv2(h)


class Attention(nn.Module):
    """Self-attention over all positions of a map (Vaswani et al. 2017, eq. 1), added to its input.

    The last layer is zero-initialized, so that initially the output is the input.
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
    """Repetition of each position of a map twice, along T and for two `dims` also along F, then a convolution."""

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
    """Return `x` with the ends of its last axes padded, so that their lengths are multiples of `multiples`.

    `multiples` has one number per axis, the last for the last axis. Padding is zeros, or for `mode` "replicate" the
    last value of each axis.
    """
    pads: list[int] = []
    for axis in range(1, len(multiples) + 1):
        pads += [0, -x.shape[-axis] % multiples[-axis]]
    return nnf.pad(x, pads, mode=mode) if any(pads) else x


def cropped(x: Tensor, lengths: Shape) -> Tensor:
    """Return a map cropped at the ends to `lengths` (F, T), the lengths before `padded`."""
    return x[:, :, : lengths[0], : lengths[1]]


def patchify(x: Tensor, sizes: tuple[int, int]) -> Tensor:
    """Return a map with blocks of f x t positions moved to channels, for `sizes` (f, t).

    [B, C, F, T] becomes [B, C * f * t, F / f, T / t]. F must be a multiple of f, and T of t.
    """
    for axis, size in enumerate(sizes, start=2):
        if size > 1:
            x = x.unflatten(axis, (-1, size)).movedim(axis + 1, 2).flatten(1, 2)
    return x


def unpatchify(x: Tensor, sizes: tuple[int, int]) -> Tensor:
    """Return a map with channels moved to positions, the inverse of `patchify` with the same `sizes`."""
    for axis, size in reversed(list(enumerate(sizes, start=2))):
        if size > 1:
            x = x.unflatten(1, (-1, size)).movedim(2, axis + 1).flatten(axis, axis + 1)
    return x

"""Cross-attention to controls at a lower rate, with rotary positions (Su et al. 2021, RoFormer, section 3.2).

B clips, C channels of a map, E channels of the encoded controls, F bins, T frames, K keys, D channels of a head. Times
are in frames at full length.
"""

from typing import Self

import pydantic
import torch
import torch.nn.functional as nnf
from torch import Tensor, nn

from data_specs.arrays import Shape
from data_specs.strict import Positive
from training.conditioning import ControlLayout
from training.networks.control.base import ControlBranch
from training.networks.control.local import LocalConfig, control_rows, with_basis
from training.networks.layers import Norm, as_map, convolution, padded, zeroed

LONGEST = 10_000.0  # ratio of the longest to the shortest period of the rotary positions


class CrossAttentionConfig(LocalConfig):
    """Config: that of `LocalBranch`, and rate (`stride`), reach and number of heads of the attention.

    `stride` and `reach` are in frames at full length; `reach` is at least `stride`.
    """

    stride: Positive = 4  # frames per key: 18.75 Hz for 75 frames per second
    reach: Positive = 38  # largest distance between a frame and the centre of a key to which it attends
    heads: Positive = 2

    @pydantic.model_validator(mode="after")
    def _fits(self) -> Self:
        if self.reach < self.stride:
            raise ValueError(f"reach must be at least stride = {self.stride}, got {self.reach}")
        if self.channels % (2 * self.heads):
            raise ValueError(f"channels must be a multiple of 2 * heads = {2 * self.heads}, got {self.channels}")
        return self


class CrossAttentionBranch(ControlBranch):
    """Frames of every level attend to the controls near them; zero-initialized outputs are added to the map.

    A key encodes `stride` frames of all controls. Biases of queries and keys are initialized to 1, so that with rotary
    positions the initial weights are highest at the time of the frame. The encoder has no normalization over time, so
    that a control affects only frames within `reach` and half a stride. Bins of a two-dimensional map attend
    independently. MuseControlLite (arXiv 2506.18729) conditions on curves in the same way, at their full rate.
    """

    Config = CrossAttentionConfig

    def __init__(self, config: CrossAttentionConfig, layout: ControlLayout, widths: Shape, up_widths: Shape) -> None:
        super().__init__(config, layout, widths, up_widths)
        self.config = config
        rows, self.resolutions = control_rows(layout, config.resolution)
        self.conv_in = nn.Conv1d(rows, config.channels, config.stride, config.stride)
        self.project = convolution(1, config.channels, config.channels, kernel=1)
        self.attentions, self.up_attentions = (
            nn.ModuleList(CrossAttention(config, width, 2**level) for level, width in enumerate(path))
            for path in (widths, up_widths)
        )

    def encode(self, controls: Tensor, dtype: torch.dtype) -> list[Tensor]:
        """Return the keys [B, E, 1, K], one for each `stride` frames, K = T / stride rounded up.

        The list has the same tensor for every level.
        """
        whole = padded(controls, (self.config.stride,), mode="replicate")
        h = self.conv_in(with_basis(whole, self.resolutions))
        return [self.project(as_map(nnf.silu(h), dtype))] * len(self.attentions)

    def inject(self, level: int, x: Tensor, encoded: Tensor) -> Tensor:
        return self.attentions[level](x, encoded)

    def inject_up(self, level: int, x: Tensor, encoded: Tensor) -> Tensor:
        return self.up_attentions[level](x, encoded)


class CrossAttention(nn.Module):
    """Attention of the frames of a map to the keys within `config.reach`, added to the map.

    Args:
        config: config of the branch.
        width: number of channels C of the map.
        step: distance between the frames of the map, in frames at full length.
    """

    def __init__(self, config: CrossAttentionConfig, width: int, step: int) -> None:
        super().__init__()
        self.stride, self.step, self.reach, self.heads = config.stride, step, config.reach, config.heads
        self.norm = Norm(width)
        self.query = convolution(1, width, config.channels, kernel=1)
        self.key = convolution(1, config.channels, config.channels, kernel=1)
        self.value = convolution(1, config.channels, config.channels, kernel=1)
        self.out = zeroed(convolution(1, config.channels, width, kernel=1))
        for projection in (self.query, self.key):
            nn.init.ones_(projection.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor, encoded: Tensor) -> Tensor:
        """Return a map [B, C, F, T] for a map `x` [B, C, F, T] and keys `encoded` [B, E, 1, K]."""
        batch, _, bins, _ = x.shape
        times = middles(x.shape[-1], self.step, x.device)
        key_times = middles(encoded.shape[-1], self.stride, x.device)
        q = rotated(self._heads(self.query(self.norm(x))), times / self.stride)
        k = rotated(self._heads(self.key(encoded)), key_times / self.stride)
        k, v = (part.repeat_interleave(bins, dim=0) for part in (k, self._heads(self.value(encoded))))
        near = (times[:, None] - key_times).abs() <= self.reach
        attended = nnf.scaled_dot_product_attention(q, k, v, attn_mask=near)  # [B * F, heads, T, D]
        flat = attended.transpose(1, 2).flatten(2).unflatten(0, (batch, bins))
        return x + self.out(flat.permute(0, 3, 1, 2))

    def _heads(self, x: Tensor) -> Tensor:
        """Return `x` [B, E, F, T] as [B * F, heads, T, D]; F is 1 and T is K for keys."""
        return x.permute(0, 2, 3, 1).flatten(0, 1).unflatten(2, (self.heads, -1)).transpose(1, 2)


def middles(count: int, step: int, device: torch.device) -> Tensor:
    """Return the centres of `count` consecutive segments of `step` frames, in frames, float32 [count]."""
    return torch.arange(count, device=device) * step + (step - 1) / 2


def rotated(x: Tensor, times: Tensor) -> Tensor:
    """Return `x` [..., T, D] with pairs of channels rotated by angles `times` [T] * frequency, in radians.

    Channel i < D / 2 is paired with channel i + D / 2. The frequencies are LONGEST ** (-2 i / D). D must be even.
    """
    half = x.shape[-1] // 2
    frequencies = LONGEST ** (-torch.arange(half, device=x.device) / half)
    angles = times[:, None] * frequencies
    cos, sin = angles.cos().to(x.dtype), angles.sin().to(x.dtype)
    first, second = x.chunk(2, dim=-1)
    return torch.cat([first * cos - second * sin, first * sin + second * cos], dim=-1)

"""The U-Net in one or two dimensions, after Ronneberger et al. 2015, with noise modulation and control branches.

It knows nothing of noise: a scalar per clip (`c_noise`, of order one) is embedded and modulates every block.
B batch, C channels, F bins, T frames, K codebooks, N control rows, H features before the last layer.
"""

from collections.abc import Callable
from typing import Annotated, Any, Self

import pydantic
import torch
import torch.nn.functional as nnf
from pydantic import Field
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from data_specs.controls import UNCONDITIONED
from data_specs.errors import UserError
from data_specs.spec import StrictModel
from training.conditioning import ControlLayout
from training.networks.codes import ClassLogits, CodeEmbedding
from training.networks.control import ControlBranch, build_branches
from training.networks.layers import (
    Attention,
    Block,
    NoiseEmbedding,
    Norm,
    Upsample,
    convolution,
    cropped,
    folded,
    padded,
    unfolded,
    zeroed,
)

Positive = Annotated[int, Field(gt=0)]
Factors = tuple[Annotated[float, Field(gt=0)], ...]


class UNetConfig(StrictModel):
    """Shape of a U-Net. Channels are `channels` at full length, times one factor at each halving."""

    channels: Positive
    factors: Factors
    blocks: Positive = 1  # per level
    embedding: Positive = 512  # of the noise scalar
    attention: Annotated[int, Field(ge=0)] = 0  # levels with self-attention, counted from the bottom
    code_embedding: Positive = 32  # channels per codebook, for codes only
    controls: dict[str, dict[str, Any]] = Field(default_factory=dict)  # ways of control by name; none: unconditional
    patch: Positive = 1  # positions along each axis that are folded into channels on the way in; continuous data only
    checkpoint: bool = False  # keep only each block's input and compute the rest again going back

    @property
    def down_widths(self) -> tuple[int, ...]:
        """Channels at each level, the bottom last."""
        return _widths(self.channels, self.factors)

    @property
    def up_widths(self) -> tuple[int, ...]:
        """Channels at each level on the way up, from the one above the bottom to full length."""
        return self.down_widths[-2::-1]


class UNetExpandConfig(UNetConfig):
    """A U-Net whose channels going up follow factors of their own, so that many output channels need no wide leap."""

    up_factors: Factors  # one per doubling, from the bottom

    @property
    def up_widths(self) -> tuple[int, ...]:
        """Channels at each level on the way up."""
        return _widths(self.down_widths[-1], self.up_factors)[1:]

    @pydantic.model_validator(mode="after")
    def _as_many(self) -> Self:
        if len(self.up_factors) != len(self.factors):
            raise ValueError(f"up_factors must be as many as factors, {len(self.factors)}")
        return self


def _widths(channels: int, factors: Factors) -> tuple[int, ...]:
    widths = [channels]
    for factor in factors:
        widths.append(max(1, round(widths[-1] * factor)))
    return tuple(widths)


class Level(nn.Module):
    """The blocks of one level, each followed by self-attention where it is asked for."""

    def __init__(self, dims: int, c_in: int, c_out: int, config: UNetConfig, attention: bool) -> None:
        super().__init__()
        ins = [c_in] + [c_out] * (config.blocks - 1)
        self.blocks = nn.ModuleList(Block(dims, c, c_out, config.embedding) for c in ins)
        self.attentions = nn.ModuleList(Attention(c_out) for _ in ins if attention)

    def forward(self, x: Tensor, embedded: Tensor, run: Callable[..., Tensor]) -> Tensor:
        """`run(module, *inputs)` calls a module, with or without checkpointing."""
        for index, block in enumerate(self.blocks):
            x = run(block, x, embedded)
            if self.attentions:
                x = run(self.attentions[index], x)
        return x


class UNet(nn.Module):
    """U-Net over maps [B, C, T] or [B, C, F, T], or over codes [B, K, T] with `classes`.

    Lengths need not divide: positions are padded inside and cropped again. In two dimensions the bins are told apart
    by a learned value for each channel and bin, since a pitch belongs to its bin and convolutions see no position.

    Args:
        config: the shape; a `UNetExpandConfig` widens going up.
        shape: of one clip, (C, T), (C, F, T), or (K, T); T is not fixed by it.
        layout: the control features.
        classes: number of classes of each code, or None for continuous data.
        vocabulary: number of values of a code that go in: `classes`, plus 1 where there is a mask.
    """

    def __init__(
        self,
        config: UNetConfig,
        shape: tuple[int, ...],
        layout: ControlLayout,
        classes: int | None = None,
        vocabulary: int | None = None,
    ) -> None:
        super().__init__()
        dims = len(shape) - 1
        down, up = config.down_widths, config.up_widths
        depth = len(config.factors)
        if classes and config.patch > 1:
            raise UserError(
                "network.patch is for continuous data; codes need a last layer that acts on each frame alone"
            )
        self.patch = config.patch
        self.multiple = config.patch * 2**depth
        self.checkpointing = config.checkpoint
        self.control_rows = layout.total
        self.codes = CodeEmbedding(shape[0], vocabulary or classes, config.code_embedding) if classes else None
        self.noise = NoiseEmbedding(config.embedding)
        entering = self.codes.channels if self.codes else shape[0] * config.patch**dims
        self.enter = convolution(dims, entering, down[0])
        bins = -(-shape[1] // self.multiple) * 2**depth
        self.bins = nn.Parameter(torch.zeros(down[0], bins, 1)) if dims == 2 else None

        met = (down[0], *down[:-1])  # widths before a level's first block: the level above's
        self.branches = build_branches(config.controls, layout, met)
        extra = sum(branch.extra_channels for branch in self._branches())
        attends = [level > depth - config.attention for level in range(depth + 1)]
        self.down = nn.ModuleList(Level(dims, met[i] + extra, down[i], config, attends[i]) for i in range(depth + 1))
        self.shrink = nn.ModuleList(convolution(dims, width, width, stride=2) for width in down[:-1])
        above = (down[-1], *up)
        self.grow = nn.ModuleList(Upsample(dims, width) for width in above[:-1])
        self.up = nn.ModuleList(
            Level(dims, above[i] + down[depth - 1 - i], up[i], config, attends[depth - 1 - i]) for i in range(depth)
        )
        self.norm = Norm(above[-1])
        if classes:
            self.out: nn.Module = ClassLogits(above[-1], shape[0], classes)
        else:
            self.out = zeroed(convolution(dims, above[-1], entering, kernel=1))

    def _branches(self) -> list[ControlBranch]:
        return list(self.branches.values())  # type: ignore[arg-type]

    def _run(self, module: nn.Module, *inputs: Tensor) -> Tensor:
        if self.checkpointing and torch.is_grad_enabled():
            kept: Tensor = checkpoint(module, *inputs, use_reentrant=False, preserve_rng_state=False)
            return kept
        result: Tensor = module(*inputs)
        return result

    def features(self, x: Tensor, c_noise: Tensor, controls: Tensor | None = None) -> Tensor:
        """Everything but the last layer.

        Args:
            x: float [B, C, (F,) T] or int64 [B, K, T].
            c_noise: noise conditioning [B], of order one.
            controls: [B, N, T], -1 where a feature says nothing; None: nothing is said.

        Returns:
            [B, H, (F,) T], with patches F and T divided by the patch and rounded up.
        """
        lengths = tuple(-(-length // self.patch) for length in x.shape[2:])
        h = padded(self.codes(x) if self.codes is not None else x, self.multiple)
        h = self.enter(folded(h, self.patch))
        if self.bins is not None:
            h = h + self.bins.to(h.dtype)
        embedded = self.noise(c_noise)
        encodings = self._encodings(controls, x, embedded)
        skips = []
        for level, blocks in enumerate(self.down):
            for branch, encoding in zip(self._branches(), encodings, strict=True):
                h = branch.inject(level, h, encoding[level])
            h = blocks(h, embedded, self._run)
            if level < len(self.shrink):
                skips.append(h)
                h = self.shrink[level](h)
        for grow, blocks in zip(self.grow, self.up, strict=True):
            h = blocks(torch.cat([grow(h), skips.pop()], dim=1), embedded, self._run)
        return nnf.silu(self.norm(cropped(h, lengths)))

    def _encodings(self, controls: Tensor | None, x: Tensor, like: Tensor) -> list[list[Tensor]]:
        if not self.branches:
            return []
        if controls is None:
            controls = like.new_full((x.shape[0], self.control_rows, x.shape[-1]), UNCONDITIONED)
        whole = nnf.avg_pool1d(padded(controls, self.multiple, mode="replicate"), self.patch)
        return [branch.encode(whole) for branch in self._branches()]

    def forward(self, x: Tensor, c_noise: Tensor, controls: Tensor | None = None) -> Tensor:
        """As `features`, then the last layer: [B, C, (F,) T], or logits [B, K, T, classes] for codes."""
        mapped: Tensor = self.out(self.features(x, c_noise, controls))
        return mapped if self.codes is not None else cropped(unfolded(mapped, self.patch), tuple(x.shape[2:]))

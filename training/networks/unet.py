"""U-Net in one or two dimensions (Ronneberger et al. 2015) with noise modulation and control branches.

B clips, C channels, F bins, T frames, K codebooks, R control rows, H inputs of the last layer, E embedding size.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated, ClassVar, Self

import pydantic
import torch
from pydantic import Field
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from data_specs.arrays import Shape
from data_specs.controls import UNCONDITIONED
from data_specs.errors import UserError
from data_specs.io.files import Json
from data_specs.strict import Positive, StrictModel
from training.conditioning import ControlLayout
from training.networks.codes import ClassLogits, CodeEmbedding
from training.networks.control import ControlBranch, build_branches
from training.networks.layers import (
    Attention,
    Block,
    NoiseEmbedding,
    Norm,
    Renamed,
    Upsample,
    as_map,
    convolution,
    cropped,
    padded,
    patchify,
    unpatchify,
    zeroed,
)

Factors = tuple[Annotated[float, Field(gt=0)], ...]


class UNetConfig(StrictModel):
    """Config of a U-Net.

    Level 0 has full length and `channels` channels. At each further level the length is halved, and the channels are
    those of the level before times the next of `factors`, rounded.
    """

    channels: Positive
    factors: Factors
    blocks: Positive = 1  # number per level
    embedding: Positive = 512  # size of the noise embedding
    attention: Annotated[int, Field(ge=0)] = 0  # number of lowest levels with self-attention
    code_embedding: Positive = 32  # channels per codebook; codes only
    controls: dict[str, Json] = Field(default_factory=dict)  # control branches by name; empty: unconditional
    patch: Positive = 1  # positions per axis moved to channels; continuous data only
    skip: Annotated[int, Field(ge=0)] = 0  # kernel of the noise-gated linear skip; 0 for none; continuous data only
    augmented: bool = False  # whether the strength of curve augmentation is an input
    guided: bool = False  # whether the weight of guidance is an input, for few-step models
    checkpoint: bool = False  # activation checkpointing of each block

    @pydantic.model_validator(mode="after")
    def _odd_kernel(self) -> Self:
        if self.skip and self.skip % 2 == 0:
            raise ValueError(f"skip must be odd or 0, got {self.skip}")
        return self

    @property
    def down_widths(self) -> Shape:
        """Channels at each level of the downward path, full length first and the lowest level last."""
        return _widths(self.channels, self.factors)

    @property
    def up_widths(self) -> Shape:
        """Channels at each level of the upward path, full length last; the same as on the downward path."""
        return self.down_widths[-2::-1]


class UNetExpandConfig(UNetConfig):
    """Config of a U-Net whose upward path has its own factors, for a last layer with more inputs.

    The channels of the lowest level are multiplied by the first of `up_factors`, and so on up to full length.
    """

    up_factors: Factors  # one per doubling of the length, from the bottom

    @property
    def up_widths(self) -> Shape:
        """Channels at each level of the upward path, full length last; each those of the level below times a factor."""
        return _widths(self.down_widths[-1], self.up_factors)[1:]

    @pydantic.model_validator(mode="after")
    def _same_depth(self) -> Self:
        if len(self.up_factors) != len(self.factors):
            raise ValueError(f"up_factors must have {len(self.factors)} values, as factors")
        return self


def _widths(channels: int, factors: Factors) -> Shape:
    widths = [channels]
    for factor in factors:
        widths.append(max(1, round(widths[-1] * factor)))
    return tuple(widths)


class Level(nn.Module):
    """Blocks of one level of the U-Net on one path, each followed by self-attention if `attention`."""

    def __init__(self, dims: int, c_in: int, c_out: int, config: UNetConfig, attention: bool) -> None:
        super().__init__()
        in_widths = [c_in] + [c_out] * (config.blocks - 1)
        self.blocks = nn.ModuleList(Block(dims, c, c_out, config.embedding) for c in in_widths)
        self.attentions = nn.ModuleList(Attention(c_out) for _ in in_widths if attention)

    def forward(self, x: Tensor, embedded: Tensor, run: Callable[..., Tensor]) -> Tensor:
        """Return a map [B, c_out, F, T] for a map `x` [B, c_in, F, T] and the noise embedding [B, E].

        `run(module, *inputs)` calls a module, with or without activation checkpointing.
        """
        for index, block in enumerate(self.blocks):
            x = run(block, x, embedded)
            if self.attentions:
                x = run(self.attentions[index], x)
        return x


class LinearSkip(nn.Module):
    """Convolution from the input to the output of the U-Net, with output channels scaled by the noise level.

    The scale of a channel is a learned affine function of the noise embedding, times 1 / (1 + sigma^2) for
    c_noise = ln(sigma) / 4. At low noise a denoiser is close to a linear filter of all channels, whose rank narrow
    blocks cannot reach. At high noise such a filter would pass noise. The convolution is zero-initialized.
    """

    def __init__(self, dims: int, channels: int, kernel: int, embedding: int) -> None:
        super().__init__()
        self.conv = zeroed(convolution(dims, channels, channels, kernel))
        self.gate = nn.Linear(embedding, channels)
        nn.init.ones_(self.gate.bias)

    def forward(self, x: Tensor, c_noise: Tensor, embedded: Tensor) -> Tensor:
        """Return the filtered map [B, C, F, T], given a map, the noise scalar [B] and its embedding [B, E]."""
        gate = self.gate(embedded) * torch.sigmoid(-8 * c_noise.float())[:, None]
        return self.conv(x) * gate.to(x.dtype)[:, :, None, None]


class UNet(Renamed):
    """U-Net over [B, C, T] or [B, C, F, T], or over codes [B, K, T] with `classes`.

    Positions are padded to a multiple of the patch size times the total stride, and the output is cropped. In two
    dimensions there is a learned bias per channel and bin, since convolutions do not know the pitch of a bin.

    Args:
        config: config; a `UNetExpandConfig` has its own widths on the upward path.
        shape: shape of one clip, (C, T), (C, F, T) or (K, T); T may differ between calls.
        layout: order of the controls in stacked tensors.
        classes: number of classes of a code; None for continuous data.
        vocabulary: number of values of a code in the input, `classes` plus 1 with a mask; None for `classes`. Not used
            for continuous data.

    Attributes:
        compute_dtype: dtype of the maps; to be set by `training.networks.precision`.

    Raises:
        UserError: `patch` above 1 or `skip` above 0 for codes, or an unknown control branch, or a control that the
            layout lacks.
    """

    former_names: ClassVar = {"enter": "conv_in", "shrink": "downsample", "grow": "upsample"}
    compute_dtype = torch.float32
    _kept: list[tuple[Tensor, list[list[Tensor]]]] | None = None  # controls and their encodings, see `encoding_once`

    def __init__(
        self,
        config: UNetConfig,
        shape: Shape,
        layout: ControlLayout,
        classes: int | None = None,
        vocabulary: int | None = None,
    ) -> None:
        super().__init__()
        dims = len(shape) - 1
        down, up = config.down_widths, config.up_widths
        depth = len(config.factors)
        if classes and (config.patch > 1 or config.skip):
            raise UserError("network.patch must be 1 and network.skip 0 for codes; remove them for FORMAT=disc")
        self.patch = (config.patch if dims == 2 else 1, config.patch)
        self.multiples = tuple(config.patch * 2**depth for _ in range(dims))
        self.checkpointing = config.checkpoint
        self.control_rows = layout.total
        self.codes = CodeEmbedding(shape[0], vocabulary or classes, config.code_embedding) if classes else None
        self.noise = NoiseEmbedding(config.embedding)
        self.strength = zeroed(nn.Linear(1, config.embedding, bias=False)) if config.augmented else None
        self.guidance = zeroed(nn.Linear(1, config.embedding, bias=False)) if config.guided else None
        c_in = self.codes.channels if self.codes else shape[0] * config.patch**dims
        self.conv_in = convolution(dims, c_in, down[0])
        bins = -(-shape[1] // self.multiples[0]) * 2**depth
        self.bins = nn.Parameter(torch.zeros(down[0], bins, 1)) if dims == 2 else None

        in_widths = (down[0], *down[:-1])
        below = (down[-1], *up)
        up_in_widths = tuple(below[i] + down[depth - 1 - i] for i in range(depth))
        self.branches = build_branches(config.controls, layout, in_widths, up_in_widths[::-1])
        extra = sum(branch.extra_channels for branch in self._branches())
        attends = [level > depth - config.attention for level in range(depth + 1)]
        self.down = nn.ModuleList(
            Level(dims, in_widths[i] + extra, down[i], config, attends[i]) for i in range(depth + 1)
        )
        self.downsample = nn.ModuleList(convolution(dims, width, width, stride=2) for width in down[:-1])
        self.upsample = nn.ModuleList(Upsample(dims, width) for width in below[:-1])
        self.up = nn.ModuleList(
            Level(dims, up_in_widths[i], up[i], config, attends[depth - 1 - i]) for i in range(depth)
        )
        self.norm = Norm(below[-1])
        if classes:
            self.out: nn.Module = ClassLogits(below[-1], shape[0], classes)
        else:
            self.out = zeroed(convolution(dims, below[-1], c_in, kernel=1))
        self.skip = LinearSkip(dims, shape[0], config.skip, config.embedding) if config.skip else None

    def _branches(self) -> list[ControlBranch]:
        return list(self.branches.values())  # type: ignore[arg-type]

    def _run(self, module: nn.Module, *inputs: Tensor) -> Tensor:
        if self.checkpointing and torch.is_grad_enabled():
            return checkpoint(module, *inputs, use_reentrant=False, preserve_rng_state=False)
        return module(*inputs)

    def features(self, x: Tensor, c_noise: Tensor, controls: Tensor | None = None) -> Tensor:
        """Return the inputs of the last layer, in `compute_dtype`.

        Args:
            x: float [B, C, (F,) T] or int64 [B, K, T].
            c_noise: noise scalar [B], of order one.
            controls: [B, R, T], -1 where unconditioned; None if all are unconditioned. Further rows, the same at all
                frames, are the strength of curve augmentation, used only by an `augmented` network, and as the last
                row of a `guided` network the weight of guidance minus the default one; both are 0 without a row.

        Returns:
            [B, H, T] for codes; else [B, H, F, T] with F = 1 for [B, C, T], F and T divided by the patch size along
            their axis and rounded up.
        """
        lengths = (1, *x.shape[2:])[-2:]
        h = padded(self.codes(x) if self.codes is not None else x, self.multiples)
        h = self.conv_in(patchify(as_map(h, self.compute_dtype), self.patch))
        if self.bins is not None:
            h = h + self.bins.to(h.dtype)
        embedded = self.noise(c_noise)
        if controls is not None and controls.shape[1] > self.control_rows:
            inputs = controls[:, self.control_rows :, 0]
            if self.guidance is not None:
                embedded, inputs = embedded + self.guidance(inputs[:, -1:]), inputs[:, :-1]
            if self.strength is not None and inputs.shape[1]:
                embedded = embedded + self.strength(inputs)
        encodings = self._encodings(controls, x, embedded)
        skips = []
        for level, blocks in enumerate(self.down):
            for branch, encoding in zip(self._branches(), encodings, strict=True):
                h = branch.inject(level, h, encoding[level])
            h = blocks(h, embedded, self._run)
            if level < len(self.downsample):
                skips.append(h)
                h = self.downsample[level](h)
        for upsample, blocks in zip(self.upsample, self.up, strict=True):
            level = len(skips) - 1
            h = torch.cat([upsample(h), skips.pop()], dim=1)
            for branch, encoding in zip(self._branches(), encodings, strict=True):
                h = branch.inject_up(level, h, encoding[level])
            h = blocks(h, embedded, self._run)
        sizes = (-(-lengths[0] // self.patch[0]), -(-lengths[1] // self.patch[1]))
        h = self.norm.silu(cropped(h, sizes))
        return h if self.codes is None else h.squeeze(2)

    def _encodings(self, controls: Tensor | None, x: Tensor, like: Tensor) -> list[list[Tensor]]:
        if not self.branches:
            return []
        for known, encodings in self._kept or ():
            if known is controls:
                return encodings
        if controls is None:
            controls = like.new_full((x.shape[0], self.control_rows, x.shape[-1]), UNCONDITIONED)
        whole = padded(controls[:, : self.control_rows], self.multiples[-1:], mode="replicate")
        if self.patch[1] > 1:
            whole = nn.functional.avg_pool1d(whole, self.patch[1])
        encodings = [branch.encode(whole, self.compute_dtype) for branch in self._branches()]
        if self._kept is not None:
            self._kept.append((controls, encodings))
        return encodings

    def forward(self, x: Tensor, c_noise: Tensor, controls: Tensor | None = None) -> Tensor:
        """Return an output [B, C, (F,) T], or for codes logits [B, K, T, classes], in `compute_dtype`.

        Arguments are those of `features`.
        """
        mapped: Tensor = self.out(self.features(x, c_noise, controls))
        if self.codes is not None:
            return mapped
        lengths = (1, *x.shape[2:])[-2:]
        mapped = cropped(unpatchify(mapped, self.patch), lengths)
        if self.skip is not None:
            mapped = mapped + self.skip(as_map(x, self.compute_dtype), c_noise, self.noise(c_noise))
        return mapped.reshape(x.shape)


@contextmanager
def encoding_once(network: nn.Module) -> Iterator[None]:
    """Make a U-Net encode each tensor of controls only once within the `with` block; other networks are unchanged.

    A tensor is recognized by its identity. Weights and controls must not change in the block.
    """
    if not isinstance(network, UNet):
        yield
        return
    network._kept = []
    try:
        yield
    finally:
        network._kept = None

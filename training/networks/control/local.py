"""Local control: encoded controls, concatenated to the maps at every level of the downward path of the U-Net.

B clips, R control rows, T frames.
"""

from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from data_specs.arrays import Shape
from data_specs.controls import CONTROLS
from data_specs.strict import Positive, StrictModel
from training.conditioning import ControlLayout
from training.networks.control.base import ControlBranch
from training.networks.layers import Block, as_map, convolution


class LocalConfig(StrictModel):
    """Config: channels of the encoded controls at each level, and how many functions of a control row are encoded.

    For `resolution` n > 1, n triangular functions of each row are encoded beside its value (`triangular_basis`); for 1
    the value alone; for "control" the number is the attribute `encoding` of each control.
    """

    channels: Positive = 128
    resolution: Positive | Literal["control"] = 1


class LocalBranch(ControlBranch):
    """Concatenation of encoded controls to the channels of the map at each level of the downward path.

    The encoder is like the downward path of the U-Net, but one-dimensional and with the same number of channels at each
    level. In a two-dimensional U-Net the encoded controls are the same for all bins.
    """

    Config = LocalConfig
    former_names: ClassVar = {"enter": "conv_in", "halve": "downsample"}

    def __init__(self, config: LocalConfig, layout: ControlLayout, widths: Shape, up_widths: Shape) -> None:
        super().__init__(config, layout, widths, up_widths)
        self.extra_channels = config.channels
        rows, self.resolutions = control_rows(layout, config.resolution)
        self.conv_in = convolution(1, rows, config.channels)
        self.blocks = nn.ModuleList(Block(1, config.channels, config.channels, None) for _ in widths)
        self.downsample = nn.ModuleList(convolution(1, config.channels, config.channels, stride=2) for _ in widths[1:])

    def encode(self, controls: Tensor, dtype: torch.dtype) -> list[Tensor]:
        h = self.blocks[0](self.conv_in(as_map(with_basis(controls, self.resolutions), dtype)))
        encoded = [h]
        for downsample, block in zip(self.downsample, self.blocks[1:], strict=True):
            h = block(downsample(h))
            encoded.append(h)
        return encoded

    def inject(self, level: int, x: Tensor, encoded: Tensor) -> Tensor:
        return torch.cat([x, encoded.expand(-1, -1, x.shape[2], -1)], dim=1)


def control_rows(layout: ControlLayout, resolution: int | Literal["control"]) -> tuple[int, Shape]:
    """Return the number of rows that `with_basis` gives, and the number of triangular functions of each control row.

    `resolution` is that of `LocalConfig`. The second result is the argument `resolutions` of `with_basis`.
    """
    functions = tuple(
        CONTROLS[name].encoding if resolution == "control" else resolution
        for name, rows in layout.rows
        for _ in range(rows)
    )
    return layout.total + sum(size for size in functions if size > 1), functions


def with_basis(controls: Tensor, resolutions: Shape) -> Tensor:
    """Return `controls` [B, R, T] followed by the rows of their `triangular_basis`."""
    return torch.cat([controls, triangular_basis(controls, resolutions)], dim=1)


def triangular_basis(controls: Tensor, resolutions: Shape) -> Tensor:
    """Return triangular functions of controls [B, R, T]: [B, sum of the resolutions above 1, T].

    `resolutions` has the number of functions of each of the R rows; 1 is for none. Functions have a height of 1, and
    their centres are evenly spaced from 0 to 1. A value in 0..1 has weights with sum 1 in the two nearest ones, or 1 in
    one whose centre it is. With 12 functions each pitch class has its own. Unconditioned values (-1) give 0 in all.
    """
    parts = [controls[:, :0]]
    for row, resolution in enumerate(resolutions):
        if resolution > 1:
            steps = torch.arange(resolution, device=controls.device)[:, None]
            distance = (controls[:, row : row + 1] * (resolution - 1) - steps).abs()
            parts.append((1 - distance).clamp(min=0))
    return torch.cat(parts, dim=1)

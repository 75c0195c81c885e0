"""Local control: controls encoded at every level of the U-Net and concatenated to its maps."""

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
    """Channels of the encoded controls at each level, and number of triangular functions for each control row.

    `resolution` 1 is for the value alone; "control" uses the number in the registry entry of each control.
    """

    channels: Positive = 128
    resolution: Positive | Literal["control"] = 1


class LocalBranch(ControlBranch):
    """Encoder like the downward path of the U-Net, but one-dimensional and with a constant number of channels.

    In a two-dimensional U-Net the encoded controls are the same for all bins.
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
    """Return the number of rows of `with_basis`, and the number of triangular functions of each control row."""
    functions = tuple(
        CONTROLS[name].encoding if resolution == "control" else resolution
        for name, rows in layout.rows
        for _ in range(rows)
    )
    return layout.total + sum(size for size in functions if size > 1), functions


def with_basis(controls: Tensor, resolutions: Shape) -> Tensor:
    """Append the triangular functions of controls [B, R, T] to their rows."""
    return torch.cat([controls, triangular_basis(controls, resolutions)], dim=1)


def triangular_basis(controls: Tensor, resolutions: Shape) -> Tensor:
    """Return triangular functions of controls [B, R, T]: [B, sum of resolutions > 1, T].

    Their centres are evenly spaced from 0 to 1, so that a value activates the two nearest ones (linear interpolation).
    With 12 functions each pitch class activates one. Unconditioned values (-1) activate none.
    """
    parts = [controls[:, :0]]
    for row, resolution in enumerate(resolutions):
        if resolution > 1:
            steps = torch.arange(resolution, device=controls.device)[:, None]
            distance = (controls[:, row : row + 1] * (resolution - 1) - steps).abs()
            parts.append((1 - distance).clamp(min=0))
    return torch.cat(parts, dim=1)

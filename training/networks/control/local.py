"""Local control: curves encoded at every time scale of the U-Net and concatenated to its maps."""

from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from data_specs.arrays import Shape
from data_specs.controls import CONTROLS
from data_specs.strict import StrictModel
from training.conditioning import ControlLayout
from training.networks.control.base import ControlBranch
from training.networks.layers import Block, as_map, convolution


class LocalConfig(StrictModel):
    """Control channels, the same at every level, and triangular functions for each row.

    `resolution` 1 takes values as they are; "control" takes the number that the registry states for each control.
    """

    channels: Annotated[int, Field(gt=0)] = 128
    resolution: Annotated[int, Field(gt=0)] | Literal["control"] = 1


class LocalBranch(ControlBranch):
    """Encoder shaped as the downward path of the U-Net, one-dimensional and of constant width.

    In a two-dimensional U-Net the encoded curves are the same for all frequencies.
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


def resolutions(layout: ControlLayout, resolution: int | Literal["control"]) -> Shape:
    """Return the number of triangular functions of each row."""
    return tuple(
        CONTROLS[name].encoding if resolution == "control" else resolution
        for name, rows in layout.rows
        for _ in range(rows)
    )


def control_rows(layout: ControlLayout, resolution: int | Literal["control"]) -> tuple[int, Shape]:
    """Return the number of rows of `with_basis` and the triangular functions of each control row."""
    functions = resolutions(layout, resolution)
    return layout.total + sum(size for size in functions if size > 1), functions


def with_basis(controls: Tensor, resolutions: Shape) -> Tensor:
    """Append the triangular functions of controls [B, R, T] to them."""
    return torch.cat([controls, triangular_basis(controls, resolutions)], dim=1)


def triangular_basis(controls: Tensor, resolutions: Shape) -> Tensor:
    """Evaluate triangular functions centred on even steps from 0 to 1: [B, R, T] -> [B, sum of resolutions > 1, T].

    A value between two steps is shared between them in proportion (linear interpolation transposed). With 12 steps
    each pitch class is an input of its own. Unconditioned values, -1, activate no step.
    """
    parts = [controls[:, :0]]
    for row, resolution in enumerate(resolutions):
        if resolution > 1:
            steps = torch.arange(resolution, device=controls.device)[:, None]
            distance = (controls[:, row : row + 1] * (resolution - 1) - steps).abs()
            parts.append((1 - distance).clamp(min=0))
    return torch.cat(parts, dim=1)

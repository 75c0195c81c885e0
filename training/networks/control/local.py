"""Local control: curves encoded at every time scale of the U-Net and concatenated to its maps."""

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from data_specs.spec import StrictModel
from training.conditioning import ControlLayout
from training.networks.control.base import ControlBranch
from training.networks.layers import Block, convolution


class LocalConfig(StrictModel):
    """The number of control channels, the same at every level, and how finely values are told apart."""

    channels: Annotated[int, Field(gt=0)] = 128
    resolution: Annotated[int, Field(gt=0)] = 1  # hat functions over 0..1 for each row; 1: the values as they are


class LocalBranch(ControlBranch):
    """A copy in shape of the U-Net's first half with a constant number of channels, always in one dimension.

    In a two-dimensional U-Net the encoded curves are the same for all frequencies.
    """

    Config = LocalConfig

    def __init__(self, config: LocalConfig, layout: ControlLayout, widths: tuple[int, ...]) -> None:
        super().__init__(config, layout, widths)
        self.extra_channels = config.channels
        self.resolution = config.resolution
        rows = layout.total * (1 + config.resolution) if config.resolution > 1 else layout.total
        self.enter = convolution(1, rows, config.channels)
        self.blocks = nn.ModuleList(Block(1, config.channels, config.channels, None) for _ in widths)
        self.halve = nn.ModuleList(convolution(1, config.channels, config.channels, stride=2) for _ in widths[1:])

    def encode(self, controls: Tensor) -> list[Tensor]:
        if self.resolution > 1:
            controls = torch.cat([controls, hats(controls, self.resolution)], dim=1)
        h = self.blocks[0](self.enter(controls))
        encoded = [h]
        for halve, block in zip(self.halve, self.blocks[1:], strict=True):
            h = block(halve(h))
            encoded.append(h)
        return encoded

    def inject(self, level: int, x: Tensor, encoded: Tensor) -> Tensor:
        if x.ndim == 4:
            encoded = encoded.unsqueeze(2).expand(-1, -1, x.shape[2], -1)
        return torch.cat([x, encoded.to(x.dtype)], dim=1)


def hats(controls: Tensor, resolution: int) -> Tensor:
    """[B, N, T] -> [B, N * resolution, T]: how near each value is to each of `resolution` even steps from 0 to 1.

    Between two steps both answer in proportion (linear interpolation, read backwards). With 12 steps each pitch class
    is an input of its own: a single number would have neighbours on the keyboard of numbers, not of sounds, look
    alike. Values below 0, which say nothing, are near to no step.
    """
    steps = torch.arange(resolution, device=controls.device)[:, None]
    distance = (controls.unsqueeze(2) * (resolution - 1) - steps).abs()
    return (1 - distance).clamp(min=0).flatten(1, 2)

"""Local control: curves encoded at every time scale of the U-Net and concatenated to its maps."""

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from data_specs.spec import Strict
from training.conditioning import ControlLayout
from training.networks.control.base import ControlBranch
from training.networks.layers import Block, convolution


class LocalConfig(Strict):
    """The number of control channels, the same at every level."""

    channels: Annotated[int, Field(gt=0)] = 128


class LocalBranch(ControlBranch):
    """A copy in shape of the U-Net's first half with a constant number of channels, always in one dimension.

    In a two-dimensional U-Net the encoded curves are the same for all frequencies.
    """

    Config = LocalConfig

    def __init__(self, config: LocalConfig, layout: ControlLayout, widths: tuple[int, ...]) -> None:
        super().__init__(config, layout, widths)
        self.extra_channels = config.channels
        self.enter = convolution(1, layout.total, config.channels)
        self.blocks = nn.ModuleList(Block(1, config.channels, config.channels, None) for _ in widths)
        self.halve = nn.ModuleList(convolution(1, config.channels, config.channels, stride=2) for _ in widths[1:])

    def encode(self, controls: Tensor) -> list[Tensor]:
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

"""Interface of the control branches. B clips, R control rows, C channels, F bins, T frames."""

from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from torch import Tensor

from data_specs.arrays import Shape
from data_specs.strict import StrictModel
from training.conditioning import ControlLayout
from training.networks.layers import Renamed


class ControlBranch(Renamed, ABC):
    """Part of a U-Net through which controls enter it. Level 0 has full length, each further level half of it.

    `encode` is called once per evaluation, when sampling once per batch. `inject` is called at every level of the
    downward path and `inject_up` at every level of the upward path, before the blocks of the level.
    """

    Config: ClassVar[type[StrictModel]]
    extra_channels: int = 0  # channels that `inject` adds to a map

    @abstractmethod
    def __init__(self, config: StrictModel, layout: ControlLayout, widths: Shape, up_widths: Shape) -> None:
        """Build the branch.

        Args:
            config: config of the branch.
            layout: order of the controls.
            widths: channels of the map that `inject` receives at each level.
            up_widths: channels of the map that `inject_up` receives at each level but the last.
        """
        super().__init__()

    @abstractmethod
    def encode(self, controls: Tensor, dtype: torch.dtype) -> list[Tensor]:
        """Encode controls, float32 [B, R, T], T divisible by 2 ** (levels - 1), as a tensor of `dtype` per level."""

    @abstractmethod
    def inject(self, level: int, x: Tensor, encoded: Tensor) -> Tensor:
        """Add the encoding of its level to a map [B, C, F, T]; return [B, C + extra_channels, F, T]."""

    def inject_up(self, level: int, x: Tensor, encoded: Tensor) -> Tensor:
        """Add the encoding of its level to a map [B, C, F, T] of the upward path; return the same shape."""
        return x

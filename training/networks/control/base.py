"""Interface of the control branches.

B clips, R control rows, C channels, F bins, T frames; a map is a tensor [B, C, F, T], see `training.networks.layers`.
"""

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

    `encode` is called once per evaluation of the U-Net, or once for all evaluations in `encoding_once`. `inject` is
    called at every level of the downward path and `inject_up` at every level of the upward path, before the blocks of
    the level. The upward path has all levels but the lowest.
    """

    Config: ClassVar[type[StrictModel]]
    extra_channels: int = 0  # channels that `inject` adds to a map

    @abstractmethod
    def __init__(self, config: StrictModel, layout: ControlLayout, widths: Shape, up_widths: Shape) -> None:
        """Build the branch.

        Args:
            config: config of the branch, an instance of `Config`.
            layout: order of the controls in stacked tensors.
            widths: channels of the map that `inject` receives at each level, level 0 first.
            up_widths: channels of the map that `inject_up` receives at each level but the lowest, level 0 first.
        """
        super().__init__()

    @abstractmethod
    def encode(self, controls: Tensor, dtype: torch.dtype) -> list[Tensor]:
        """Return an encoding of the controls for each level, level 0 first, to be used by `inject` and `inject_up`.

        Args:
            controls: float32 [B, R, T], -1 where unconditioned; T is a multiple of 2 ** (number of levels - 1).
            dtype: dtype of the maps, in which the encodings should be.
        """

    @abstractmethod
    def inject(self, level: int, x: Tensor, encoded: Tensor) -> Tensor:
        """Return the map `x` [B, C, F, T] of the downward path, changed by the controls: [B, C + extra_channels, F, T].

        `encoded` is the encoding of this level, which `encode` returned. T is that of the level.
        """

    def inject_up(self, level: int, x: Tensor, encoded: Tensor) -> Tensor:
        """Return the map `x` [B, C, F, T] of the upward path, changed by the controls, in the same shape.

        `encoded` is the encoding of this level. The base class returns `x` unchanged.
        """
        return x

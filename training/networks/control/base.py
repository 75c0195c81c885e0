"""The one interface by which controls enter a U-Net. B batch, N control rows, C channels, F bins, T frames."""

from abc import ABC, abstractmethod
from typing import ClassVar

from torch import Tensor, nn

from data_specs.spec import StrictModel
from training.conditioning import ControlLayout


class ControlBranch(nn.Module, ABC):
    """A way for controls to enter. Level 0 has the full length, each further level half of it; the last is the bottom.

    `encode` runs once per evaluation; `inject` runs at every level on the way down, before the level's blocks.
    """

    Config: ClassVar[type[StrictModel]]
    extra_channels: int  # that `inject` adds to a map

    @abstractmethod
    def __init__(self, config: StrictModel, layout: ControlLayout, widths: tuple[int, ...]) -> None:
        """`widths`: channels of the map at each level as `inject` meets it."""
        super().__init__()

    @abstractmethod
    def encode(self, controls: Tensor) -> list[Tensor]:
        """float [B, N, T], T divisible by 2 ** (levels - 1) -> one tensor per level."""

    @abstractmethod
    def inject(self, level: int, x: Tensor, encoded: Tensor) -> Tensor:
        """Map [B, C, (F,) T] at `level` and what `encode` gave for it -> [B, C + extra_channels, (F,) T]."""

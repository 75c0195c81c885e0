"""Local FiLM: encoded controls scale and shift the channels of each frame, on both paths of the U-Net."""

from torch import Tensor, nn

from data_specs.arrays import Shape
from training.conditioning import ControlLayout
from training.networks.control.local import LocalBranch, LocalConfig
from training.networks.layers import convolution, modulate, zeroed


class FilmLocalBranch(LocalBranch):
    """FiLM of each frame by the encoded controls of `LocalBranch`, on both paths of the U-Net.

    A projection per level and path gives scale - 1 and shift of each channel; it is zero-initialized, so that maps are
    initially unchanged. SongEcho's per-frame FiLM (arXiv 2602.19976) is the same with a gate.
    """

    def __init__(self, config: LocalConfig, layout: ControlLayout, widths: Shape, up_widths: Shape) -> None:
        super().__init__(config, layout, widths, up_widths)
        self.extra_channels = 0
        self.films, self.up_films = (
            nn.ModuleList(zeroed(convolution(1, config.channels, 2 * width, kernel=1)) for width in path)
            for path in (widths, up_widths)
        )

    def inject(self, level: int, x: Tensor, encoded: Tensor) -> Tensor:
        return modulate(x, self.films[level](nn.functional.silu(encoded)))

    def inject_up(self, level: int, x: Tensor, encoded: Tensor) -> Tensor:
        return modulate(x, self.up_films[level](nn.functional.silu(encoded)))

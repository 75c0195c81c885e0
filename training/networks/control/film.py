"""Global control: a vector per clip scales and shifts channels (FiLM, Perez et al. 2017, eq. 2)."""

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from data_specs.arrays import Shape
from data_specs.strict import Positive, StrictModel
from training.conditioning import ControlLayout
from training.networks.control.base import ControlBranch
from training.networks.layers import modulate, zeroed


class GlobalConfig(StrictModel):
    """Config: names of the controls in the vector (`features`), and width of the hidden layer of an MLP (`hidden`)."""

    features: Annotated[tuple[str, ...], Field(min_length=1)] = ("instruments",)
    hidden: Positive = 128


class GlobalBranch(ControlBranch):
    """FiLM of the downward path by a chain of MLPs, one per level; the output of each is the input of the next.

    The input of the first is the mean over time of the chosen controls. Each MLP ends in a sigmoid, whose output in
    (0, 1) is mapped to a scale in (0, 2) and a shift in (-1, 1) per channel. Last layers are zero-initialized, so that
    the initial scale is 1 and the initial shift is 0. The upward path is unchanged.

    Raises:
        UserError: one of `features` is not in the layout.
    """

    Config = GlobalConfig

    def __init__(self, config: GlobalConfig, layout: ControlLayout, widths: Shape, up_widths: Shape) -> None:
        super().__init__(config, layout, widths, up_widths)
        self.rows = [layout.slice(name) for name in config.features]
        size = sum(rows.stop - rows.start for rows in self.rows)
        self.mlps = nn.ModuleList()
        for width in widths:
            last = zeroed(nn.Linear(config.hidden, 2 * width))
            self.mlps.append(nn.Sequential(nn.Linear(size, config.hidden), nn.SiLU(), last, nn.Sigmoid()))
            size = 2 * width

    def encode(self, controls: Tensor, dtype: torch.dtype) -> list[Tensor]:
        """Return scale - 1 and shift of the C channels of each level, float32 [B, 2C, 1, 1]; `dtype` is not used.

        They are computed from the mean of the chosen controls over all T frames, in which unconditioned frames are -1.
        """
        h = torch.cat([controls[:, rows] for rows in self.rows], dim=1).mean(dim=2)
        encoded = []
        for mlp in self.mlps:
            h = mlp(h)
            encoded.append(2 * h[:, :, None, None] - 1)
        return encoded

    def inject(self, level: int, x: Tensor, encoded: Tensor) -> Tensor:
        return modulate(x, encoded)

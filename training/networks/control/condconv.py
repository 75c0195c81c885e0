"""Conditionally parameterized convolutions (CondConv, Yang et al. 2019) with kernels that depend on the controls."""

import torch.nn.functional as nnf
from torch import Tensor, nn

from data_specs.arrays import Shape
from data_specs.strict import Positive
from training.conditioning import ControlLayout
from training.networks.control.local import LocalBranch, LocalConfig
from training.networks.layers import convolution, zeroed


class CondConvConfig(LocalConfig):
    """Config of `LocalBranch`, and number of experts (kernels) of the convolution at each level."""

    experts: Positive = 4


class CondConvBranch(LocalBranch):
    """Residual convolution at each level of the downward path, with a kernel for each frame from its controls.

    Controls are encoded as in `LocalBranch`. A kernel is the sum of the kernels of the experts, each times a routing
    weight in (0, 1) (eq. 2). The weights are computed from the encoded controls of a frame; the paper computes them
    from the mean input over all positions, which would give one kernel per clip. Experts are zero-initialized, so that
    maps are initially unchanged. The upward path is unchanged.
    """

    Config = CondConvConfig

    def __init__(self, config: CondConvConfig, layout: ControlLayout, widths: Shape, up_widths: Shape) -> None:
        super().__init__(config, layout, widths, up_widths)
        self.extra_channels = 0
        self.layers = nn.ModuleList(CondConv(config, width) for width in widths)

    def inject(self, level: int, x: Tensor, encoded: Tensor) -> Tensor:
        return self.layers[level](x, encoded)


class CondConv(nn.Module):
    """Residual convolution over frames, whose kernel at each frame is a weighted sum of `config.experts` kernels.

    `width` is the number of channels C of the map.
    """

    def __init__(self, config: CondConvConfig, width: int) -> None:
        super().__init__()
        self.routing = convolution(1, config.channels, config.experts, kernel=1)
        self.experts = zeroed(convolution(1, width, config.experts * width))

    def forward(self, x: Tensor, encoded: Tensor) -> Tensor:
        """Return a map [B, C, F, T] for a map `x` [B, C, F, T] and encoded controls [B, E, 1, T] of E channels."""
        weights = self.routing(nnf.silu(encoded)).sigmoid()
        outputs = self.experts(x).unflatten(1, (weights.shape[1], -1))
        return x + (outputs * weights[:, :, None]).sum(1)

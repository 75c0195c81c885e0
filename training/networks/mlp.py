"""Multi-layer perceptron for the swiss roll of `training.toys`."""

from itertools import pairwise
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from data_specs.arrays import Shape
from data_specs.strict import Positive, StrictModel
from training.conditioning import ControlLayout
from training.networks.layers import fourier_features, fourier_frequencies, zeroed


class MLPConfig(StrictModel):
    """Config of an MLP: number (`layers`) and width (`channels`) of hidden layers, and number of Fourier features.

    An odd number of `noise_features`, the Fourier features of the noise scalar, is rounded down to an even one.
    """

    layers: Positive = 4
    channels: Positive = 128
    noise_features: Annotated[int, Field(gt=1)] = 32


class MLP(nn.Module):
    """Linear layers with SiLU, whose input is a flattened item and Fourier features of the noise scalar.

    The last layer is zero-initialized. Controls, `layout` and `vocabulary` are ignored.

    Raises:
        ValueError: `classes` is given.
    """

    frequencies: Tensor

    def __init__(
        self,
        config: MLPConfig,
        shape: Shape,
        layout: ControlLayout,
        classes: int | None = None,
        vocabulary: int | None = None,
    ) -> None:
        super().__init__()
        if classes is not None:
            raise ValueError("an MLP must have continuous data, got codes; use a U-Net")
        self.register_buffer("frequencies", fourier_frequencies(config.noise_features // 2), persistent=False)
        values = torch.Size(shape).numel()
        widths = [values + 2 * len(self.frequencies)] + [config.channels] * config.layers
        hidden = [layer for c_in, c_out in pairwise(widths) for layer in (nn.Linear(c_in, c_out), nn.SiLU())]
        self.layers = nn.Sequential(*hidden, zeroed(nn.Linear(widths[-1], values)))

    def forward(self, x: Tensor, c_noise: Tensor, controls: Tensor | None = None) -> Tensor:
        """Map data `x` [B, *shape] and noise scalars [B] to an output [B, *shape]; controls have no effect."""
        features = fourier_features(c_noise, self.frequencies)
        mapped: Tensor = self.layers(torch.cat([x.flatten(1), features.to(x.dtype)], dim=1))
        return mapped.view_as(x)

"""Convolutional network of constant resolution, for the images of `training.toys`."""

import torch
from torch import Tensor, nn

from data_specs.arrays import Shape
from data_specs.strict import Positive, StrictModel
from training.conditioning import ControlLayout
from training.networks.layers import Block, NoiseEmbedding, Norm, as_map, convolution, zeroed


class CNNConfig(StrictModel):
    """Config of a CNN: number of blocks (of two convolutions), number of channels, and size of the noise embedding."""

    blocks: Positive = 4
    channels: Positive = 64
    embedding: Positive = 128


class CNN(nn.Module):
    """Residual blocks modulated by the noise embedding, for data (C, T) or (C, F, T).

    The last layer is zero-initialized. Controls, `layout` and `vocabulary` are ignored.

    Raises:
        ValueError: `classes` is given.
    """

    def __init__(
        self,
        config: CNNConfig,
        shape: Shape,
        layout: ControlLayout,
        classes: int | None = None,
        vocabulary: int | None = None,
    ) -> None:
        super().__init__()
        if classes is not None:
            raise ValueError("a CNN must have continuous data, got codes; use a U-Net")
        dims = len(shape) - 1
        self.noise = NoiseEmbedding(config.embedding)
        self.conv_in = convolution(dims, shape[0], config.channels)
        self.blocks = nn.ModuleList(
            Block(dims, config.channels, config.channels, config.embedding) for _ in range(config.blocks)
        )
        self.norm = Norm(config.channels)
        self.out = zeroed(convolution(dims, config.channels, shape[0], kernel=1))

    def forward(self, x: Tensor, c_noise: Tensor, controls: Tensor | None = None) -> Tensor:
        """Map data [B, C, (F,) T] and noise scalars [B] to float32 [B, C, (F,) T]; controls have no effect."""
        embedded = self.noise(c_noise)
        h = self.conv_in(as_map(x, torch.float32))
        for block in self.blocks:
            h = block(h, embedded)
        mapped: Tensor = self.out(self.norm.silu(h))
        return mapped.view_as(x)

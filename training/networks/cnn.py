"""A small convolutional network of constant resolution, for images of the first experiments."""

from typing import Annotated

import torch.nn.functional as nnf
from pydantic import Field
from torch import Tensor, nn

from data_specs.spec import StrictModel
from training.conditioning import ControlLayout
from training.networks.layers import Block, NoiseEmbedding, Norm, convolution, zeroed


class CNNConfig(StrictModel):
    """Number of blocks (two convolutions each), channels, and the size of the noise embedding."""

    blocks: Annotated[int, Field(gt=0)] = 4
    channels: Annotated[int, Field(gt=0)] = 64
    embedding: Annotated[int, Field(gt=0)] = 128


class CNN(nn.Module):
    """Residual blocks modulated by the noise scalar, in one or two dimensions by the data's. No controls."""

    def __init__(
        self,
        config: CNNConfig,
        shape: tuple[int, ...],
        layout: ControlLayout,
        classes: int | None = None,
        vocabulary: int | None = None,
    ) -> None:
        super().__init__()
        if classes is not None:
            raise ValueError("a CNN takes continuous data; use a U-Net for codes")
        dims = len(shape) - 1
        self.noise = NoiseEmbedding(config.embedding)
        self.enter = convolution(dims, shape[0], config.channels)
        self.blocks = nn.ModuleList(
            Block(dims, config.channels, config.channels, config.embedding) for _ in range(config.blocks)
        )
        self.norm = Norm(config.channels)
        self.out = zeroed(convolution(dims, config.channels, shape[0], kernel=1))

    def forward(self, x: Tensor, c_noise: Tensor, controls: Tensor | None = None) -> Tensor:
        """[B, C, ...] and [B] -> [B, C, ...]."""
        embedded = self.noise(c_noise)
        h = self.enter(x)
        for block in self.blocks:
            h = block(h, embedded)
        mapped: Tensor = self.out(nnf.silu(self.norm(h)))
        return mapped

"""Codes into and out of a network. K codebooks, V vocabulary (classes, and a mask where there is one), H features."""

import torch
import torch.nn.functional as nnf
from torch import Tensor, nn

from training.networks.layers import zeroed


class CodeEmbedding(nn.Module):
    """int64 [B, K, T] in 0..V-1 -> [B, K * D, T]: every codebook has an embedding of its own."""

    offsets: Tensor

    def __init__(self, codebooks: int, vocabulary: int, size: int) -> None:
        super().__init__()
        self.channels = codebooks * size
        self.table = nn.Embedding(codebooks * vocabulary, size)
        self.register_buffer("offsets", vocabulary * torch.arange(codebooks)[:, None], persistent=False)

    def forward(self, codes: Tensor) -> Tensor:
        embedded = self.table(codes + self.offsets)  # [B, K, T, D]
        return embedded.permute(0, 1, 3, 2).flatten(1, 2)


class ClassLogits(nn.Module):
    """The last layer of a network over codes: features [B, H, T] -> logits [B, K, T, classes].

    Its kernel is 1, so any stretch of time can be computed alone: of all logits of a batch, 1024 numbers for each
    code, only a chunk needs to exist at once. Classes lie last, where reductions over them are fastest.
    """

    def __init__(self, features: int, codebooks: int, classes: int) -> None:
        super().__init__()
        self.codebooks, self.classes = codebooks, classes
        self.conv = nn.Conv1d(features, codebooks * classes, 1)
        zeroed(self.conv)

    def forward(self, features: Tensor) -> Tensor:
        weight, bias = self.conv.weight.squeeze(2), self.conv.bias
        logits = nnf.linear(features.transpose(1, 2), weight, bias)  # [B, T, K * classes]
        return logits.unflatten(2, (self.codebooks, self.classes)).transpose(1, 2)

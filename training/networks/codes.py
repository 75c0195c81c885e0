"""Input and output layers for codes.

B clips, K codebooks, T frames, V values of a code in the input (the classes, plus a mask if the paradigm has one), D
embedding size, H features.
"""

import torch
import torch.nn.functional as nnf
from torch import Tensor, nn

from training.networks.layers import zeroed


class CodeEmbedding(nn.Module):
    """Embedding of codes, int64 [B, K, T] in 0..V-1, as float32 [B, K * D, T], with a table for each codebook.

    Args:
        codebooks: number of codebooks K.
        vocabulary: number of values V.
        size: embedding size D of a code.
    """

    offsets: Tensor

    def __init__(self, codebooks: int, vocabulary: int, size: int) -> None:
        super().__init__()
        self.channels = codebooks * size
        self.table = nn.Embedding(codebooks * vocabulary, size)
        self.register_buffer("offsets", vocabulary * torch.arange(codebooks)[:, None], persistent=False)

    def forward(self, codes: Tensor) -> Tensor:
        embedded = self.table((codes + self.offsets).transpose(1, 2))  # [B, T, K, D]
        return embedded.flatten(2).transpose(1, 2)


class ClassLogits(nn.Module):
    """Last layer of a network over codes: an affine function from features [B, H, T] to logits [B, K, T, classes].

    It computes in the dtype of the features and is zero-initialized. Frames are independent, so that a loss can compute
    the logits of a few frames at a time. Classes are the last axis, where reductions over them are fastest.

    Args:
        features: number of features H.
        codebooks: number of codebooks K.
        classes: number of classes of a code.
    """

    def __init__(self, features: int, codebooks: int, classes: int) -> None:
        super().__init__()
        self.codebooks, self.classes = codebooks, classes
        self.conv = nn.Conv1d(features, codebooks * classes, 1)
        zeroed(self.conv)

    def forward(self, features: Tensor) -> Tensor:
        weight, bias = self.conv.weight.squeeze(2).to(features.dtype), self.conv.bias
        logits = nnf.linear(features.transpose(1, 2), weight, None if bias is None else bias.to(features.dtype))
        return logits.unflatten(2, (self.codebooks, self.classes)).transpose(1, 2)

    def codebook(self, features: Tensor, k: int) -> Tensor:
        """Return the logits of codebook `k` (from 0), [R, classes], for the features [R, H] of any R frames."""
        part = slice(k * self.classes, (k + 1) * self.classes)
        weight, bias = self.conv.weight[part].squeeze(2), self.conv.bias
        return nnf.linear(features, weight.to(features.dtype), None if bias is None else bias[part].to(features.dtype))

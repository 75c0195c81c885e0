"""The encodec package's encoder on a CPU: tiles of time that fit the cache, every layer a matrix product.

The first layers have few channels and many samples, 25 MB between two layers for 8 seconds, so memory traffic costs
more than arithmetic. Audio is therefore processed in tiles. Maps are [L, C], so that the s samples of a stride are s C
contiguous numbers: a convolution is a sum of products of [L', s C] with weights [s C, D], one per stride that the
kernel spans, and is fast for 16 channels too. The recurrent layers take all clips at once, since reading their weights
costs most.

B clips, C and D channels of a layer's input and output, L samples or frames.
"""

import copy
import importlib
from collections.abc import Iterator, Sequence
from math import prod
from typing import cast

import torch
from torch import Tensor, nn

from data_specs.codecs.encodec_layers import CausalConv, Elu

# Downsampling factor of each part of the network, and the tile length at its input.
PARTS = ((8, 4800), (5, 2400), (8, 24_000))
SHORTEST = 24_000  # samples: reflections of shorter inputs exceed the input of a layer


class Conv:
    """A causal convolution without padding, [L, C] -> [L / s - k / s + 1, D]: kernel k, stride s, L a multiple of s."""

    def __init__(self, layer: CausalConv) -> None:
        weight = layer.conv.weight.detach().permute(2, 1, 0)  # [k, C, D]
        kernel, self.stride = layer.conv.kernel_size[0], layer.conv.stride[0]
        self.context = kernel - self.stride  # samples before the input that the first output needs
        # One product per stride of taps; one for the whole kernel with a single channel, since thin products are slow.
        self.window = kernel if weight.shape[1] == 1 else 0
        taps = 1 if self.window else kernel // self.stride
        self.weights = weight.reshape(taps, -1, weight.shape[2]).contiguous()
        self.bias = cast(Tensor, layer.conv.bias).detach()

    def __call__(self, x: Tensor) -> Tensor:
        if self.window:
            blocks = x[:, 0].unfold(0, self.window, self.stride)
        else:
            blocks = x.view(len(x) // self.stride, -1)
        length = len(blocks) - len(self.weights) + 1
        out = torch.addmm(self.bias, blocks[:length], self.weights[0])
        for tap in range(1, len(self.weights)):
            out.addmm_(blocks[tap : tap + length], self.weights[tap])
        return out


class Residual:
    """A residual block without padding, [L, C] -> [L - context, C]; overwrites its input."""

    stride = 1

    def __init__(self, block: nn.Module) -> None:
        _, wide, _, narrow = (layer for layer in cast(nn.Sequential, block.block))
        self.wide, self.narrow = Conv(cast(CausalConv, wide)), Conv(cast(CausalConv, narrow))
        self.shortcut = Conv(cast(CausalConv, block.shortcut))
        self.context = self.wide.context
        self.bias = self.narrow.bias + self.shortcut.bias

    def __call__(self, x: Tensor) -> Tensor:
        out = torch.addmm(self.bias, x[self.context :], self.shortcut.weights[0])
        return out.addmm_(elu_(self.wide(elu_(x))), self.narrow.weights[0])


class Activation:
    """ELU of [L, C], which overwrites its input."""

    stride, context = 1, 0

    def __call__(self, x: Tensor) -> Tensor:
        return elu_(x)


Layer = Conv | Residual | Activation


class TiledEncoder:
    """float32 [B, 1, N] on a CPU, N at least 24 000 -> latents float32 [B, 128, N / 320]; no gradient.

    Equal to the given encoder except for rounding, which depends on B through the recurrent layers only.
    """

    def __init__(self, encoder: nn.Module) -> None:
        """Copy the weights of `encoder`: that of the encodec package, after `for_inference`."""
        modules = list(cast(nn.Sequential, encoder.model))
        kind = importlib.import_module("encodec.modules").SLSTM
        (recurrent,) = (at for at, module in enumerate(modules) if isinstance(module, kind))
        self.recurrent = copy.deepcopy(modules[recurrent])  # the encoder may move to a GPU
        before, self.after = (
            [_layer(module) for module in part] for part in (modules[:recurrent], modules[recurrent + 1 :])
        )
        self.parts = list(_parts(before))

    @torch.no_grad()
    def __call__(self, audio: Tensor) -> Tensor:
        frames = torch.stack([self._convolved(clip) for clip in audio], dim=1)  # [T, B, C]
        # promise: encodec-cpu-same-bits-2
        recurred = self.recurrent(frames.permute(1, 2, 0))  # [B, C, T]
        return torch.stack([_whole(self.after, clip.t().contiguous()).t() for clip in recurred])

    def _convolved(self, clip: Tensor) -> Tensor:
        """Return the input of the recurrent layers, [T, C], for audio [1, N]."""
        x = clip.t()
        for layers, length in self.parts:
            x = _tiled(layers, length, x)
        return x


def elu_(x: Tensor) -> Tensor:
    """Return the ELU of x, written over x, as max(x, min(exp(x) - 1, 0)): exp is its only slow operation."""
    return torch.maximum(x, x.exp().sub_(1).clamp_(max=0), out=x)


def _layer(module: nn.Module) -> Layer:
    if isinstance(module, CausalConv):
        return Conv(module)
    return Activation() if isinstance(module, Elu) else Residual(module)


def _parts(layers: Sequence[Layer]) -> Iterator[tuple[list[Layer], int]]:
    """Iterate over the parts of PARTS: layers up to the downsampling factor, and the tile length at their input."""
    waiting = iter(layers)
    for divisor, length in PARTS:
        part: list[Layer] = []
        while prod(layer.stride for layer in part) < divisor:
            part.append(next(waiting))
        yield part, length


def _whole(layers: Sequence[Layer], x: Tensor) -> Tensor:
    """Apply layers to a whole clip [L, C] or its beginning, with reflection padding before the input of every layer."""
    for layer in layers:
        if layer.context:
            # promise: encodec-cpu-same-bits-3
            x = torch.cat([x[1 : layer.context + 1].flip(0), x])
        x = layer(x)
    return x


def _tiled(layers: Sequence[Layer], length: int, x: Tensor) -> Tensor:
    """Apply layers to a clip [N, C] in tiles of `length` samples; all but the first start earlier by the context."""
    context = 0
    for layer in reversed(layers):
        # promise: encodec-cpu-same-bits
        context = context * layer.stride + layer.context
    out = [_whole(layers, x[:length].clone())]
    for start in range(length, len(x), length):
        tile = x[start - context : start + length].clone()  # activations work in place
        for layer in layers:
            tile = layer(tile)
        out.append(tile)
    return torch.cat(out)

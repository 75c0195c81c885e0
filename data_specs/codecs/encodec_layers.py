"""The SEANet layers of the encodec package for inference: the same function in less time.

Weight norms are folded into the weights, activations run in place and reflections are copied as blocks. The decoder is
used as it is; the encoder is used on a GPU and for short clips, and `data_specs.codecs.tiled_encoder` for long clips on
a CPU. B clips, C channels, L samples or frames of a layer.
"""

import importlib

import torch
from torch import Tensor, nn
from torch.nn import functional


def for_inference(network: nn.Module) -> nn.Module:
    """Prepare the package's encoder or decoder for inference, in place, and return it, without gradients."""
    modules = importlib.import_module("encodec.modules")
    for module in list(network.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, modules.SConv1d):
                setattr(module, name, CausalConv(child.conv.conv))
            elif isinstance(child, modules.SConvTranspose1d):
                nn.utils.remove_weight_norm(child.convtr.convtr)
            elif isinstance(child, nn.ELU):
                setattr(module, name, Elu())
    network.requires_grad_(False)  # last, since removing a weight norm creates parameters
    return network


class CausalConv(nn.Module):
    """Causal convolution of [B, C, L] with reflection padding before the first sample; the weight norm is folded in."""

    def __init__(self, conv: nn.Conv1d) -> None:
        super().__init__()
        self.conv = nn.utils.remove_weight_norm(conv)
        self.reflected = (conv.kernel_size[0] - 1) * conv.dilation[0] - (conv.stride[0] - 1)

    def forward(self, x: Tensor) -> Tensor:
        if self.reflected:
            x = torch.cat([_reflection(x, self.reflected), x], -1)
        convolved: Tensor = self.conv(x)
        return convolved


class Elu(nn.Module):
    """ELU, which overwrites an input without gradient: a residual block has used it for the shortcut before."""

    def forward(self, x: Tensor) -> Tensor:
        return functional.elu(x, inplace=not x.requires_grad)


def _reflection(x: Tensor, length: int) -> Tensor:
    """Return the padding that goes before x [..., L]: x[length], ..., x[1]; a shorter x is first extended by zeros."""
    if x.shape[-1] <= length:  # too short to reflect: zeros are appended first, as the package does
        x = functional.pad(x, (0, length - x.shape[-1] + 1))
    return x[..., 1 : length + 1].flip(-1)

"""Precision of a network: float32, or in training bfloat16 maps with float32 parameters, norm statistics and losses.

For sampling, `freeze` also makes the weights of convolutions bfloat16.
"""

import time
from collections.abc import Callable
from typing import Literal

import torch
from torch import nn

from training.networks.unet import UNet

Precision = Literal["float32", "bf16"]
PrecisionChoice = Literal["float32", "bf16", "auto"]
LEAST_GAIN = 1.1  # smallest speed-up by bf16 on a CPU for which it is chosen


def set_precision(network: nn.Module, precision: Precision) -> None:
    """Set the dtype of the maps of a U-Net; has no effect on other networks, which always compute in float32."""
    if isinstance(network, UNet):
        network.compute_dtype = torch.bfloat16 if precision == "bf16" else torch.float32


def freeze(network: nn.Module, precision: Precision) -> nn.Module:
    """Set a network up for sampling, in place, and return it: precision, eval mode, no gradients of parameters.

    For bf16, parameters of the convolutions of a U-Net are converted to bfloat16; other networks remain float32.
    """
    set_precision(network, precision)
    if isinstance(network, UNet) and precision == "bf16":
        for module in network.modules():
            if isinstance(module, (nn.Conv1d, nn.Conv2d)):
                module.to(torch.bfloat16)
    return network.eval().requires_grad_(False)


def has_fast_bf16(device: torch.device) -> bool:
    """Return whether the device multiplies matrices in bfloat16 natively; false for devices other than CPU and CUDA."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    return device.type == "cpu" and (torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def choose_precision(network: nn.Module, trial: Callable[[], object], device: torch.device) -> Precision:
    """Return the precision in which to train.

    On a CPU with native bf16, both precisions are timed by the CPU time of `trial`, the fastest of three calls each;
    bf16 is chosen if it is more than LEAST_GAIN times as fast. The network is left in bf16, so set the precision
    afterwards. On other devices, the choice is bf16 if native, else float32, and nothing is run or set.

    Args:
        network: network that `trial` uses.
        trial: runs one training step.
        device: device of the network.
    """
    if device.type != "cpu" or not has_fast_bf16(device):
        return "bf16" if has_fast_bf16(device) else "float32"
    seconds = {}
    for precision in ("float32", "bf16"):
        set_precision(network, precision)
        timings = []
        for _ in range(3):
            started = time.thread_time()
            trial()
            timings.append(time.thread_time() - started)
        seconds[precision] = min(timings)
    return "bf16" if seconds["float32"] > LEAST_GAIN * seconds["bf16"] else "float32"

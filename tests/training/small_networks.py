"""A small U-Net table, a control layout, and parameters that make every path of a network take part."""

import torch

from training.conditioning import ControlLayout

LAYOUT = ControlLayout((("velocity", 1), ("chroma", 1), ("instruments", 3)))
SMALL = {"kind": "unet", "channels": 8, "factors": [2, 2], "embedding": 16, "controls": {"local": {"channels": 4}}}


def perturbed(network: torch.nn.Module) -> torch.nn.Module:
    """Perturb the parameters, so that zero-initialized paths have an effect."""
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter) / max(1.0, parameter[0].numel() ** 0.5))
    return network.eval()

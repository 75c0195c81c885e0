"""Backbones by name. A backbone is one file and one line in `NETWORKS`."""

from collections.abc import Callable

from torch import nn

from data_specs.arrays import Shape
from data_specs.errors import UserError
from data_specs.io.files import Json
from data_specs.registry import lookup
from data_specs.strict import StrictModel, parse_model
from training.conditioning import ControlLayout
from training.networks.cnn import CNN, CNNConfig
from training.networks.mlp import MLP, MLPConfig
from training.networks.unet import UNet, UNetConfig, UNetExpandConfig

__all__ = ["NETWORKS", "build_network", "check_width", "parameter_count"]

NETWORKS: dict[str, tuple[type[StrictModel], Callable[..., nn.Module]]] = {
    "unet": (UNetConfig, UNet),
    "unet_expand": (UNetExpandConfig, UNet),
    "mlp": (MLPConfig, MLP),
    "cnn": (CNNConfig, CNN),
}


def network_config(table: Json, where: str = "network") -> tuple[str, StrictModel]:
    """Return kind (a key of `NETWORKS`) and validated config of a table `[network.<format>]`.

    `where` is the name of the table in error messages.

    Raises:
        UserError: an unknown kind or key, or a value of the wrong type or out of range.
    """
    keys = dict(table)
    kind = keys.pop("kind", None)
    return str(kind), parse_model(lookup(NETWORKS, kind, f"{where}.kind")[0], keys, where)


def build_network(
    table: Json,
    shape: Shape,
    layout: ControlLayout,
    *,
    classes: int | None = None,
    vocabulary: int | None = None,
) -> nn.Module:
    """Build the network of a config table `[network.<format>]`.

    Args:
        table: `kind`, a key of `NETWORKS`, and the keys of its config.
        shape: shape of one clip: (C, T), (C, F, T) or, for codes, (K, T), with C channels, F bins, K codebooks and T
            frames.
        layout: order of the controls in stacked tensors.
        classes: number of classes of a code; None for continuous data.
        vocabulary: number of values of a code in the input, `classes` plus 1 with a mask; None for `classes`.

    Raises:
        UserError: an unknown kind, key, control branch or control, a value of the wrong type or out of range, or an
            option of the U-Net that is not for codes.
        ValueError: `classes` for a kind without codes (`mlp`, `cnn`).
    """
    kind, config = network_config(table)
    return NETWORKS[kind][1](config, tuple(shape), layout, classes=classes, vocabulary=vocabulary or classes)


def check_width(table: Json, shape: Shape) -> None:
    """Check that a U-Net has at least as many channels at full length as the data have values per position.

    Else the data would have directions that the last layer cannot produce, in which samples remain noise. The values
    per position are C, times the patch size once per axis. Other networks and a U-Net with a linear skip always pass.

    Args:
        table: table `[network.<format>]`.
        shape: shape of one clip of continuous data, (C, T) or (C, F, T).

    Raises:
        UserError: the U-Net has too few channels and no linear skip, or the table is invalid.
    """
    _, config = network_config(table)
    if not isinstance(config, UNetConfig) or config.skip:
        return
    needed = shape[0] * config.patch ** (len(shape) - 1)
    width = min(config.channels, (config.down_widths[:1] + config.up_widths)[-1])
    if width < needed:
        raise UserError(
            f"network.channels must be at least {needed} at full length, the values per position of the data, got "
            f"{width}; widen the network, or set network.skip = 9"
        )


def parameter_count(network: nn.Module) -> int:
    """Return the number of values of all parameters of a network, trainable or not."""
    return sum(parameter.numel() for parameter in network.parameters())

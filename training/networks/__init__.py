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
    """Return kind and validated config of a table `[network.<format>]`; `where` is its name in messages.

    Raises:
        UserError: an unknown kind or key, or a value of the wrong type.
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
        table: `kind`, one of NETWORKS, and the keys of its config.
        shape: shape of one clip: (C, T), (C, F, T) or, for codes, (K, T).
        layout: order of the controls.
        classes: number of classes of a code; None for continuous data.
        vocabulary: number of input values of a code; None for `classes`. A paradigm with a mask has one more.

    Raises:
        UserError: an unknown kind or key, or a value of the wrong type.
    """
    kind, config = network_config(table)
    return NETWORKS[kind][1](config, tuple(shape), layout, classes=classes, vocabulary=vocabulary or classes)


def check_width(table: Json, shape: Shape) -> None:
    """Check that a U-Net for continuous data has enough channels at full length to represent all channels of the data.

    Else the data would have directions that the last layer cannot produce, in which samples remain noise.

    Args:
        table: table `[network.<format>]`.
        shape: shape of one clip, (C, T) or (C, F, T).

    Raises:
        UserError: the network has too few channels and no linear skip.
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
    """Return the number of all parameters of a network."""
    return sum(parameter.numel() for parameter in network.parameters())

"""Networks of learned codecs by name. A network is one file and one line here."""

from importlib import import_module
from typing import Any

from data_specs.codecs.networks.base import CodecNetwork
from data_specs.errors import UserError

__all__ = ["NETWORKS", "CodecNetwork", "network_class"]

NETWORKS: dict[str, tuple[str, str]] = {
    "lapped": ("data_specs.codecs.networks.lapped", "LappedNetwork"),
    "magnitudes": ("data_specs.codecs.networks.magnitudes", "MagnitudeNetwork"),
    "seanet": ("data_specs.codecs.networks.seanet", "SeanetNetwork"),
}


def network_class(name: Any) -> type[CodecNetwork]:
    """The class of the networks called so.

    Raises:
        UserError: there is none.
    """
    if not isinstance(name, str) or name not in NETWORKS:
        raise UserError(f"network = {name!r} is not a codec's; choose from {', '.join(NETWORKS)}")
    module, class_name = NETWORKS[name]
    found: type[CodecNetwork] = getattr(import_module(module), class_name)
    return found

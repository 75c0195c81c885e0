"""Networks of learned codecs by name. A network is one file and one entry in `NETWORKS`."""

from typing import Any

from data_specs.codecs.networks.base import CodecNetwork
from data_specs.registry import lookup

__all__ = ["NETWORKS", "CodecNetwork", "network_class"]

NETWORKS = {
    "lapped": "data_specs.codecs.networks.lapped:LappedNetwork",
    "magnitudes": "data_specs.codecs.networks.magnitudes:MagnitudeNetwork",
    "seanet": "data_specs.codecs.networks.seanet:SeanetNetwork",
}


def network_class(name: Any) -> type[CodecNetwork]:
    """Return the class of the networks called `name`.

    Raises:
        UserError: there is none.
    """
    found: type[CodecNetwork] = lookup(NETWORKS, name, "network of a codec")
    return found

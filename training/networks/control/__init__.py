"""How controls enter a U-Net, by name. A way is one file and one line here; a config may use several at once."""

from collections.abc import Mapping
from typing import Any

from torch import nn

from data_specs.errors import UserError
from data_specs.spec import parse_model
from training.conditioning import ControlLayout
from training.networks.control.base import ControlBranch
from training.networks.control.film import GlobalBranch
from training.networks.control.local import LocalBranch

__all__ = ["CONTROL_BRANCHES", "ControlBranch", "build_branches"]

CONTROL_BRANCHES: dict[str, type[ControlBranch]] = {"local": LocalBranch, "global": GlobalBranch}


def build_branches(
    tables: Mapping[str, Mapping[str, Any]], layout: ControlLayout, widths: tuple[int, ...]
) -> nn.ModuleDict:
    """One branch per table `{"local": {...}}`, each validated by its own config; they act in this order.

    Raises:
        UserError: a way that is not known, or a key it does not have.
    """
    branches: dict[str, ControlBranch] = {}
    for name, table in tables.items():
        if name not in CONTROL_BRANCHES:
            raise UserError(f"network.controls.{name} is not known; choose from {', '.join(CONTROL_BRANCHES)}")
        branch = CONTROL_BRANCHES[name]
        branches[name] = branch(parse_model(branch.Config, table, f"network.controls.{name}"), layout, widths)
        widths = tuple(width + branches[name].extra_channels for width in widths)
    return nn.ModuleDict(branches)

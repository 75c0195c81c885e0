"""Control branches of a U-Net by name, of which a config may combine several.

A branch is one file and one line in `CONTROL_BRANCHES`.
"""

from collections.abc import Mapping
from typing import Any

from torch import nn

from data_specs.arrays import Shape
from data_specs.registry import lookup
from data_specs.strict import parse_model
from training.conditioning import ControlLayout
from training.networks.control.base import ControlBranch
from training.networks.control.condconv import CondConvBranch
from training.networks.control.cross_attention import CrossAttentionBranch
from training.networks.control.film import GlobalBranch
from training.networks.control.film_local import FilmLocalBranch
from training.networks.control.local import LocalBranch

__all__ = ["CONTROL_BRANCHES", "ControlBranch", "build_branches"]

CONTROL_BRANCHES: dict[str, type[ControlBranch]] = {
    "local": LocalBranch,
    "global": GlobalBranch,
    "film_local": FilmLocalBranch,
    "cross_attention": CrossAttentionBranch,
    "condconv": CondConvBranch,
}


def build_branches(
    tables: Mapping[str, Mapping[str, Any]],
    layout: ControlLayout,
    widths: Shape,
    up_widths: Shape,
) -> nn.ModuleDict:
    """Build a branch for each table, by name (`{"local": {...}}`); they are applied in this order.

    Args:
        tables: keys of the config of each branch.
        layout: order of the controls.
        widths: channels of the map at each level of the downward path.
        up_widths: channels of the map at each level of the upward path, full length first.

    Raises:
        UserError: an unknown branch or key.
    """
    branches: dict[str, ControlBranch] = {}
    for name, table in tables.items():
        kind = lookup(CONTROL_BRANCHES, name, "keys of network.controls")
        config = parse_model(kind.Config, table, f"network.controls.{name}")
        branches[name] = kind(config, layout, widths, up_widths)
        widths = tuple(width + branches[name].extra_channels for width in widths)
    return nn.ModuleDict(branches)

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
    """Build the branches of a U-Net by name; they are applied in alphabetical order.

    Args:
        tables: config table of each branch by a key of `CONTROL_BRANCHES`, such as `{"local": {...}}`.
        layout: order of the controls in stacked tensors.
        widths: channels of the map at each level of the downward path before the first branch, full length first.
        up_widths: channels of the map at each level of the upward path, full length first.

    Raises:
        UserError: an unknown branch, key or control, or a value of the wrong type or out of range.
    """
    branches: dict[str, ControlBranch] = {}
    for name, table in sorted(tables.items()):  # as in a snapshot, whose config has sorted keys
        kind = lookup(CONTROL_BRANCHES, name, "keys of network.controls")
        config = parse_model(kind.Config, table, f"network.controls.{name}")
        branches[name] = kind(config, layout, widths, up_widths)
        widths = tuple(width + branches[name].extra_channels for width in widths)
    return nn.ModuleDict(branches)

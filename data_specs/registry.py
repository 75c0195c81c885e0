"""The lookup that all registries share.

A registry is a dict from names to entries. An entry may be a string "module:attribute", which is imported at lookup, so
listing the names is cheap and registries add no import cycles.
"""

from collections.abc import Mapping
from importlib import import_module
from typing import Any

from data_specs.errors import UserError


def lookup(registry: Mapping[str, Any], name: Any, option: str) -> Any:
    """Return the entry of `registry` called `name`; for a string "module:attribute", the attribute, imported.

    Args:
        registry: entries by name.
        name: as the user wrote it; not a string counts as not in the registry.
        option: the option that `name` was given for, as the message names it, for example `FORMAT=`.

    Raises:
        UserError: `name` is not in the registry; the message lists the choices.
    """
    if not isinstance(name, str) or name not in registry:
        raise UserError(f"{option} must be one of {', '.join(registry)}; got {name!r:.40}")
    entry = registry[name]
    if isinstance(entry, str):
        module, _, attribute = entry.partition(":")
        return getattr(import_module(module), attribute)
    return entry

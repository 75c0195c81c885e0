"""Train diffusion models on PVT datasets, sample from them and evaluate them."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from training.data.dataset import Dataset
    from training.model import load_model

    load_run = load_model
__all__ = ["Dataset", "load_model", "load_run"]

_HOMES = {"Dataset": "training.data.dataset", "load_model": "training.model", "load_run": "training.model"}


def __getattr__(name: str) -> Any:
    """Import a public name at its first use, so that commands without torch start fast.

    Raises:
        AttributeError: `name` is not public.
    """
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_HOMES[name]), name)

"""Representations: how a format turns audio into arrays and back. `data_specs.formats` lists them."""

from data_specs.formats import FORMATS, check_format
from data_specs.representations.base import Representation, Scaling, Statistics

__all__ = ["Representation", "Scaling", "Statistics", "representation"]


def representation(name: str, codec: str = "pvt", codebooks: int = 16) -> Representation:
    """The representation of format `name`; `codec` and `codebooks` matter to encodec and disc only.

    Raises:
        UserError: unknown format or codec, or weights that cannot be had.
    """
    check_format(name)
    return FORMATS[name].make(codec, codebooks)

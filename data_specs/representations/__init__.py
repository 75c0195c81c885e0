"""Representations: audio to stored arrays and back. `data_specs.formats` lists them."""

from data_specs.formats import FORMATS
from data_specs.registry import lookup
from data_specs.representations.base import Representation, Scaling, Statistics

__all__ = ["Representation", "Scaling", "Statistics", "representation"]


def representation(name: str, codec: str = "pvt", codebooks: int = 16) -> Representation:
    """Return the representation of format `name`; only encodec and disc use `codec`, only disc uses `codebooks`.

    Weights that are not shipped are downloaded.

    Raises:
        UserError: unknown format or codec, unavailable weights, or more codebooks than the codec has.
    """
    classes = {listed: entry.representation for listed, entry in FORMATS.items()}
    made: Representation = lookup(classes, name, "FORMAT=").build(codec, codebooks)
    return made

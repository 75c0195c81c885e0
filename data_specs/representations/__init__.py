"""Representations by format name. A representation is one file and one line here."""

from collections.abc import Callable

from data_specs.representations.base import Representation, Scaling, Statistics
from data_specs.spec import check_format

__all__ = ["Representation", "Scaling", "Statistics", "representation"]


def _audio(codec: str, codebooks: int) -> Representation:
    from data_specs.representations.audio import Audio

    return Audio()


def _cqt(codec: str, codebooks: int) -> Representation:
    from data_specs.representations.cqt import Cqt

    return Cqt()


def _encodec(codec: str, codebooks: int) -> Representation:
    from data_specs.codecs import load_codec
    from data_specs.representations.latents import Latents

    return Latents(load_codec(codec))


def _disc(codec: str, codebooks: int) -> Representation:
    from data_specs.codecs import load_codec
    from data_specs.representations.latents import Codes

    return Codes(load_codec(codec), codebooks)


REPRESENTATIONS: dict[str, Callable[[str, int], Representation]] = {
    "audio": _audio,
    "cqt": _cqt,
    "encodec": _encodec,
    "disc": _disc,
}


def representation(name: str, codec: str = "pvt", codebooks: int = 16) -> Representation:
    """The representation of format `name`; `codec` and `codebooks` matter to encodec and disc only.

    Raises:
        UserError: unknown format or codec, or weights that cannot be had.
    """
    check_format(name)
    return REPRESENTATIONS[name](codec, codebooks)

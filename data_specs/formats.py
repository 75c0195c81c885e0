"""Which formats there are. A format is a representation in a file of its own and one entry here."""

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from data_specs.errors import UserError

if TYPE_CHECKING:
    from data_specs.representations.base import Representation


class FormatEntry(NamedTuple):
    """One format.

    Attributes:
        make: codec's name and number of codebooks, which matter to some -> the representation; imports what it needs.
        seconds: that a clip takes on one core of a 2026 server, for the estimate that is printed before work starts.
        codec: whether a codec makes it, on a GPU where there is one.
        codes: whether it holds codes, stored as int16, instead of floats.
    """

    make: "Callable[[str, int], Representation]"
    seconds: float
    codec: bool = False
    codes: bool = False


def _audio(codec: str, codebooks: int) -> "Representation":
    from data_specs.representations.audio import Audio

    return Audio()


def _cqt(codec: str, codebooks: int) -> "Representation":
    from data_specs.representations.cqt import Cqt

    return Cqt()


def _encodec(codec: str, codebooks: int) -> "Representation":
    from data_specs.codecs import load_codec
    from data_specs.representations.latents import Latents

    return Latents(load_codec(codec))


def _disc(codec: str, codebooks: int) -> "Representation":
    from data_specs.codecs import load_codec
    from data_specs.representations.latents import Codes

    return Codes(load_codec(codec), codebooks)


FORMATS: dict[str, FormatEntry] = {
    "audio": FormatEntry(_audio, seconds=0.015),
    "cqt": FormatEntry(_cqt, seconds=0.05),
    "encodec": FormatEntry(_encodec, seconds=0.02, codec=True),
    "disc": FormatEntry(_disc, seconds=0.05, codec=True, codes=True),
}


def check_format(name: str) -> None:
    """Raise UserError unless `name` is one of the formats."""
    if name not in FORMATS:
        raise UserError(f"FORMAT={name} is not known; choose from {', '.join(FORMATS)}, a comma list, or all")

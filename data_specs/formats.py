"""Registry of the data formats. A format is one file with a `Representation` and one entry here."""

from typing import Any, NamedTuple

from data_specs.errors import UserError


class FormatEntry(NamedTuple):
    """One format.

    Attributes:
        representation: subclass of `Representation`, or "module:class" (see `data_specs.registry`).
        seconds: processor time to encode a clip on one core of a 2026 server, for the printed estimate.
        codes: whether it stores codes as int16, instead of floats.
    """

    representation: Any
    seconds: float
    codes: bool = False


FORMATS: dict[str, FormatEntry] = {
    "audio": FormatEntry("data_specs.representations.audio:Audio", seconds=0.015),
    "cqt": FormatEntry("data_specs.representations.cqt:Cqt", seconds=0.05),
    "encodec": FormatEntry("data_specs.representations.latents:Latents", seconds=0.02),
    "disc": FormatEntry("data_specs.representations.latents:Codes", seconds=0.05, codes=True),
}


def check_format(name: str) -> None:
    """Raise UserError unless `name` is one of the formats."""
    if name not in FORMATS:
        raise UserError(f"FORMAT= must be one of {', '.join(FORMATS)}, a comma list of them, or all; got {name!r:.40}")

"""Melodies of the sample dataset: public-domain tunes, stored in ABC notation (see abc.py), as MIDI files."""

import re
import unicodedata
from collections.abc import Iterator
from importlib import resources

from pipeline.tunes.abc import Tune, read_tunes

COLLECTIONS = ("folk", "dances", "hymns", "carols", "classical")


def tunes() -> Iterator[tuple[str, Tune]]:
    """Iterate over all tunes as (name, tune), by collection, where a name is `collection/title_in_lower_case`."""
    for collection in COLLECTIONS:
        text = resources.files(__package__).joinpath(f"{collection}.abc").read_text(encoding="utf-8")
        for tune in read_tunes(text):
            yield f"{collection}/{_slug(tune.title)}", tune


def midi_files() -> Iterator[tuple[str, bytes]]:
    """Iterate over all tunes as (name ending in .mid, bytes of a MIDI file), the same bytes on every machine."""
    from pipeline.tunes.playing import tune_midi

    for name, tune in tunes():
        yield f"{name}.mid", tune_midi(tune)


def _slug(title: str) -> str:
    plain = unicodedata.normalize("NFKD", title).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]+", "_", plain).strip("_")

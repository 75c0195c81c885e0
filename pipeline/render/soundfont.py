"""Location of SoundFont files."""

import importlib.util
from pathlib import Path

from data_specs.errors import UserError

TIMGM6MB = "timgm6mb"


def soundfont_path(name: str) -> Path:
    """Return the path of a SoundFont.

    Args:
        name: `timgm6mb` (6 MB, part of pretty_midi), or the path of an .sf2 or .sf3 file, in which ~ is the home
            folder.

    Raises:
        UserError: the file is missing, unreadable or not a SoundFont, or pretty_midi is needed and missing.
    """
    path = _bundled() if name == TIMGM6MB else Path(name).expanduser()
    if not path.is_file():
        raise UserError(f"SOUNDFONT={name} must be `{TIMGM6MB}` or an existing file; check the path")
    try:
        with open(path, "rb") as file:
            header = file.read(12)
    except OSError as error:
        raise UserError(f"SOUNDFONT={name} cannot be read ({error.strerror}); check its permissions") from None
    if header[:4] != b"RIFF" or header[8:] != b"sfbk":
        raise UserError(f"SOUNDFONT={name} must be a SoundFont (.sf2 or .sf3); check the path")
    return path


def _bundled() -> Path:
    spec = importlib.util.find_spec("pretty_midi")  # locates without importing, which would cost a second
    if spec is None or spec.origin is None:
        raise UserError(f"SOUNDFONT={TIMGM6MB} is part of pretty_midi, which is missing; run `pip install pretty_midi`")
    return Path(spec.origin).with_name("TimGM6mb.sf2")

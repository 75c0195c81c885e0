"""From a MIDI file of one's own to a curve file: its melody, as the curves that a model can follow."""

import json
import math
from pathlib import Path

import numpy as np

from data_specs.controls.curve_files import curves_value
from data_specs.controls.curves import MAX_SECONDS, Curves
from data_specs.errors import UserError
from data_specs.io.files import write_bytes
from data_specs.rates import SAMPLE_RATE
from data_specs.spec import load_spec
from pipeline.melody.skyline import UNITS, Melody, melodies
from pipeline.melody.windows import Notes
from pipeline.midi.reader import SandboxedReader
from pipeline.midi.song import Song
from pipeline.rejects import Rejected


def midi_curves(
    path: Path, seconds: int = 8, start_s: float = 0.0, track: int | None = None, instrument: str | None = None
) -> Curves:
    """The curves of a stretch of one track's melody.

    Args:
        path: a MIDI file.
        seconds: length of the stretch.
        start_s: where it starts, in seconds from the track's first note.
        track: index of the track; the one with most notes in its melody for None.
        instrument: name to write down; for None that of the track's program where the datasets have it, else free.

    Raises:
        UserError: not a MIDI file, no such track, or no notes there.
    """
    if not (math.isfinite(start_s) and start_s >= 0) or not 1 <= seconds <= MAX_SECONDS:
        raise UserError(f"a stretch starts at 0 s or later and lasts 1 to {MAX_SECONDS} s; ask for another one")
    spec = load_spec("sample")
    try:
        with open(path, "rb") as file, SandboxedReader(spec.limits) as reader:
            song = reader(file.read(spec.limits.file_bytes + 1))
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}); check the path") from None
    except Rejected as rejected:
        raise UserError(f"{path} is not a MIDI file that can be read ({rejected}); export it again") from None
    # Any melody will do, however short: it is one person's choice, not one of a hundred thousand clips.
    clip = spec.clip.model_copy(update={"seconds": seconds, "min_notes": 1})
    found, _ = melodies(song, clip)
    melody = _chosen(found, track, path)
    notes = melody_notes(melody, start_s, seconds)
    if not len(notes):
        length = (melody.offset[-1] - melody.onset[0]) / (SAMPLE_RATE * UNITS)
        raise UserError(f"{path} has no notes there: track {melody.track} lasts {length:.1f} s from its first note")
    programs = {one.program: one.name for one in spec.instruments}
    return Curves.from_notes(notes, instrument or programs.get(_program(song, melody)))


def melody_notes(melody: Melody, start_s: float, seconds: int) -> Notes:
    """Notes [n, 4] of a melody: onset and offset in samples from `start_s` after its first note, pitch, velocity.

    Notes that sound at the start are taken from there on, the last one is cut at the end.
    """
    origin = int(melody.onset[0]) + round(start_s * SAMPLE_RATE * UNITS)
    end = seconds * SAMPLE_RATE
    onset = np.clip((melody.onset - origin + UNITS // 2) // UNITS, 0, end)
    offset = np.clip((melody.offset - origin + UNITS // 2) // UNITS, 0, end)
    notes = np.stack([onset, offset, melody.pitch, melody.velocity], axis=1)
    return np.asarray(notes[offset > onset], np.int32)


def write_midi_curves(path: Path, out: Path | None, **choices: object) -> Path:
    """Write the curves of a MIDI file as JSON; beside the file, with the ending .json, for None. Returns the path."""
    curves = midi_curves(path, **choices)  # type: ignore[arg-type]
    target = out or path.with_suffix(".json")
    write_bytes(target, (json.dumps(curves_value(curves)) + "\n").encode())
    return target


def _chosen(found: list[Melody], track: int | None, path: Path) -> Melody:
    if not found:
        raise UserError(f"{path} has no melody: no track with pitched notes; choose another file")
    if track is None:
        return max(found, key=lambda melody: (len(melody.onset), -melody.track))
    for melody in found:
        if melody.track == track:
            return melody
    there = ", ".join(str(melody.track) for melody in found)
    raise UserError(f"{path} has no melody in track {track}; there is one in {there}")


def _program(song: Song, melody: Melody) -> int:
    return next(track.program for track in song.tracks if track.index == melody.track)

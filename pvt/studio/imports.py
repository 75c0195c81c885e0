"""Imports of the studio: MIDI files and recordings of clients, with limits on size and time."""

import io
from typing import Any

import numpy as np

from data_specs.analysis.recording_curves import curves_from_audio, read_recording
from data_specs.controls.curve_files import curves_value
from data_specs.errors import UserError
from data_specs.rates import SAMPLE_RATE as RATE
from data_specs.spec import load_spec
from pipeline.melody.skyline import UNITS, melodies
from pipeline.midi.reader import SandboxedReader
from pipeline.rejects import Rejected
from pipeline.tools.midi_curves import melody_notes
from pvt.studio.requests import MAX_SECONDS

MAX_NOTES = 5000


def midi_notes(content: bytes, seconds: int, track: int | None) -> dict[str, Any]:
    """Return the melody of one track of a MIDI file, and the list of tracks to choose from, as a JSON value.

    `notes` are at most `MAX_NOTES`: start and stop in seconds from the first note of the track, MIDI pitch, and
    velocity 0..1 with four decimals. `track` is the index of their track. `tracks` have index, number of notes, length
    in seconds and instrument, which is empty if the spec `sample` has none with the program of the track.

    Args:
        content: content of the file.
        seconds: length to read, from the first note of the track, 1 to 600.
        track: index of the track; None for the one with most notes.

    Raises:
        UserError: not a MIDI file that can be read, no melody, no such track, or `seconds` out of range.
    """
    spec = load_spec("sample")
    if not 1 <= seconds <= 600:
        raise UserError(f"seconds must be in 1..600, got {seconds}")
    try:
        with SandboxedReader(spec.limits) as reader:
            song = reader(content[: spec.limits.file_bytes + 1])
    except Rejected as rejected:
        raise UserError(f"the file is not a readable MIDI file ({rejected})") from None
    found, _ = melodies(song, spec.clip.model_copy(update={"seconds": seconds, "min_notes": 1}))
    if not found:
        raise UserError("the file has no track with pitched notes")
    by_track = {melody.track: melody for melody in found}
    if track is None:
        track = max(by_track, key=lambda index: (len(by_track[index].onset), -index))
    if track not in by_track:
        raise UserError(f"track must be one of {', '.join(map(str, by_track))}, got {track}")
    notes = np.asarray(melody_notes(by_track[track], 0.0, seconds))[:MAX_NOTES].tolist()
    programs = {one.program: one.name for one in spec.instruments}
    program = {one.index: one.program for one in song.tracks}
    return {
        "track": track,
        "tracks": [
            {
                "index": index,
                "notes": len(melody.onset),
                "seconds": round(float(melody.offset[-1] - melody.onset[0]) / (RATE * UNITS), 1),
                "instrument": programs.get(program.get(index, -1), ""),
            }
            for index, melody in by_track.items()
        ],
        "notes": [
            {"start": onset / RATE, "stop": offset / RATE, "pitch": pitch, "velocity": round(velocity / 127, 4)}
            for onset, offset, pitch, velocity in notes
        ],
    }


def recording_curves(content: bytes, seconds: int, controls: tuple[str, ...], sharpness: float) -> dict[str, Any]:
    """Return the curves measured from a recording, as a JSON value with `curves` and `seconds`, the length used.

    Pitch is given as notes, loudness as velocity and the spectral centroid as brightness, each only if it is in
    `controls`.

    Args:
        content: an audio file of any rate and number of channels.
        seconds: largest length used from the start of the file, 1 to 30; the file may be shorter.
        controls: names of the controls of the model that will follow the curves.
        sharpness: detail of the curves: 0 for the slow movement only, 1 for every frame.

    Raises:
        UserError: not an audio file, a silent one, or `seconds` or `sharpness` out of range.
    """
    if not 1 <= seconds <= MAX_SECONDS:
        raise UserError(f"seconds must be in 1..{MAX_SECONDS:g}, got {seconds}")
    audio = read_recording(io.BytesIO(content))[: seconds * RATE]
    curves = curves_from_audio(audio, controls, sharpness, notes=True)
    return {"curves": curves_value(curves), "seconds": round(len(audio) / RATE, 2)}

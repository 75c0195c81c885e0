"""The control feature `pitch`."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_specs.arrays import Float32, Float64
from data_specs.controls.base import (
    REST,
    Control,
    FrameNotes,
    Interpolation,
    Points,
    Value,
    abbreviate,
    note_points,
    parse_number,
    shortest_decimal,
)
from data_specs.controls.chroma import NOTES
from data_specs.errors import UserError

PITCH_ORIGIN = 23  # MIDI note number that is stored as 0, below all that sound
PITCH_SPAN = 85  # semitones that are stored as 1
_NAME = re.compile(r"([A-Ga-g])([#b]?)(-?[0-9])", re.ASCII)


class Pitch(Control):
    """MIDI note number p with fractions, glides and vibrato included, stored as (p - 23) / 85; 0 in rests.

    Measured from audio it is 0 also where no pitch in 23..108 is found.
    """

    name = "pitch"
    descriptor = "pitch"
    lane = "pitch"
    unit = "(MIDI note number - 23) / 85"
    default: Interpolation = "linear"
    encoding = PITCH_SPAN + 1  # one function a semitone

    def from_frames(self, notes: FrameNotes) -> NDArray[Any]:
        return np.where(notes.sounding, (notes.pitch + notes.bend - PITCH_ORIGIN) / PITCH_SPAN, 0)

    def from_descriptor(self, values: Float32) -> NDArray[Any]:
        stored = (values - PITCH_ORIGIN) / PITCH_SPAN
        return np.where((stored > 0) & (stored <= 1), stored, 0)  # 0 where unvoiced

    def is_invalid(self, arrays: Mapping[str, NDArray[Any]]) -> bool:
        pitch = arrays[self.name]
        velocity = arrays.get("velocity", pitch)
        return bool(pitch.min() < 0 or pitch.max() > 1 or not np.array_equal(pitch == 0, velocity == 0))

    def from_notes(self, notes: Sequence[Sequence[int]], instrument: str | None) -> Points:
        return note_points(notes, lambda pitch, velocity: float(pitch), REST)

    def parse(self, value: Any) -> tuple[Value, str]:
        if isinstance(value, str):
            return (REST if value.strip().lower() == REST else _note_number(value)), ""
        midi = parse_number(value, "pitch")
        if not PITCH_ORIGIN < midi <= PITCH_ORIGIN + PITCH_SPAN:
            raise UserError(
                f"pitch must be a MIDI note number above {PITCH_ORIGIN} and at most {PITCH_ORIGIN + PITCH_SPAN}, "
                f"got {midi:g}; 60 is C4"
            )
        return midi, ""

    def format(self, value: Value) -> float | str | None:
        return note_name(int(value)) if isinstance(value, float) and value.is_integer() else value

    def to_frame(self, value: Any, instruments: Sequence[str]) -> Float64:
        return np.array([0.0 if value == REST else (value - PITCH_ORIGIN) / PITCH_SPAN])

    def from_frame(self, frame: Float32, sounding: bool, instruments: Sequence[str]) -> Value:
        level = shortest_decimal(frame[0], self.name)
        if level == 0:
            return REST
        return None if level is None else round(level * PITCH_SPAN + PITCH_ORIGIN, 4)


def note_name(midi: int) -> str:
    """Return the name of a MIDI note number, with sharps: 60 is C4, 61 is C#4."""
    return f"{NOTES[midi % 12]}{midi // 12 - 1}"


def is_black(midi: int) -> bool:
    """Return whether a MIDI note number is a black key of a piano."""
    return "#" in NOTES[midi % 12]


def _note_number(name: str) -> float:
    match = _NAME.fullmatch(name.strip().replace("\u266f", "#").replace("\u266d", "b"))
    if match is None:
        raise UserError(
            f"pitch must be a note name with its octave, a MIDI note number or rest, got {abbreviate(name)}; C4 is 60"
        )
    letter, accidental, octave = match.groups()
    midi = NOTES.index(letter.upper()) + {"": 0, "#": 1, "b": -1}[accidental] + 12 * (int(octave) + 1)
    if not PITCH_ORIGIN < midi <= PITCH_ORIGIN + PITCH_SPAN:
        raise UserError(f"pitch must be C1 to C8, got {abbreviate(name)}")
    return float(midi)

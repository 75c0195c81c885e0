"""The control feature `chroma`."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_specs.arrays import Float32, Float64
from data_specs.controls.base import (
    REST,
    Control,
    FrameNotes,
    Points,
    Value,
    abbreviate,
    note_points,
    parse_number,
    shortest_decimal,
)
from data_specs.errors import UserError

CHROMA_STEPS = 11  # divides a pitch class 0..11
NOTES = ("C", "C#", "D", "D#", "E", "F", "F#", "G", "G#", "A", "A#", "B")


class Chroma(Control):
    """Pitch class of the sounding note, k / 11 for k = 0..11 semitones above C; 0 both for C and in rests."""

    name = "chroma"
    lane = "notes"
    unit = "semitones above C / 11"

    def from_frames(self, notes: FrameNotes) -> NDArray[Any]:
        # promise: frame-i-looks-sample-5
        return np.where(notes.sounding, notes.pitch % 12 / CHROMA_STEPS, 0)

    def is_invalid(self, arrays: Mapping[str, NDArray[Any]]) -> bool:
        chroma = arrays[self.name]
        steps = chroma * CHROMA_STEPS
        return bool(
            np.abs(steps - np.round(steps)).max() > 1e-4
            or not np.isin(steps.round(), np.arange(12)).all()
            or chroma[arrays.get("velocity", chroma) == 0].any()
        )

    def from_notes(self, notes: Sequence[Sequence[int]], instrument: str | None) -> Points:
        return note_points(notes, lambda pitch, velocity: pitch % 12 / CHROMA_STEPS, REST)

    def parse(self, value: Any) -> tuple[Value, str]:
        if isinstance(value, str):
            return (REST if value.strip().lower() == REST else _pitch_class(value) / CHROMA_STEPS), ""
        level = parse_number(value, "chroma")
        if not 0 <= level <= 1:
            raise UserError(f"chroma must be in 0..1, got {level:g}; write a note name such as F#, k/11, or null")
        k = round(level * CHROMA_STEPS)
        if abs(level * CHROMA_STEPS - k) > 0.01:
            return k / CHROMA_STEPS, f"chroma {level:g} taken as {k}/{CHROMA_STEPS} ({NOTES[k]})"
        return k / CHROMA_STEPS, ""

    def announce(self, written: Sequence[Any]) -> str:
        numbers = {value for value in written if not isinstance(value, str) and value is not None}
        if not numbers or not numbers <= {0, 1}:
            return ""
        return "numbers are read as k/11: 0 is C, 1 is B; write note names for other pitch classes"

    def format(self, value: Value) -> float | str | None:
        return NOTES[round(value * CHROMA_STEPS)] if isinstance(value, float) else value

    def to_frame(self, value: Any, instruments: Sequence[str]) -> Float64:
        return np.array([0.0 if value == REST else value])

    def from_frame(self, frame: Float32, sounding: bool, instruments: Sequence[str]) -> Value:
        level = shortest_decimal(frame[0], "chroma")
        if level == 0 and not sounding:  # 0 is a C or a rest
            return REST
        return None if level is None else round(level * CHROMA_STEPS) / CHROMA_STEPS

    def quantize(self, frames: Float64) -> Float64:
        # Data holds multiples of 1/11 only, so a line between two notes becomes a chromatic scale.
        return np.asarray(np.floor(frames * CHROMA_STEPS + 0.5) / CHROMA_STEPS)


def _pitch_class(name: str) -> int:
    text = name.strip().replace("♯", "#").replace("♭", "b")
    natural, accidentals = text[:1].upper(), text[1:]
    if natural in NOTES and accidentals.lstrip("#b").lstrip("-").isdecimal():
        without = text.rstrip("-0123456789")
        raise UserError(f"chroma has no octaves, got {abbreviate(name)}; write {without}, or draw pitch")
    if natural not in NOTES or natural == "" or accidentals not in ("", "#", "b"):
        raise UserError(f"chroma must be a note name, got {abbreviate(name)}; write C, C#, Db, D ... B, or rest")
    return (NOTES.index(natural) + {"": 0, "#": 1, "b": -1}[accidentals]) % 12

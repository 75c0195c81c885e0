"""The control feature `velocity`."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_specs.controls.base import (
    Control,
    Float32,
    FrameNotes,
    Interpolation,
    Points,
    Value,
    note_points,
    number,
    shortest,
)
from data_specs.errors import UserError

MAX_VELOCITY = 127  # divides a MIDI velocity


class Velocity(Control):
    """Loudness of the note that plays, MIDI velocity / 127; 0 in rests. Drawn as lines."""

    name = "velocity"
    default: Interpolation = "linear"

    def from_frames(self, played: FrameNotes) -> NDArray[Any]:
        return np.where(played.sounding, played.velocity / MAX_VELOCITY, 0)

    def faulty(self, arrays: Mapping[str, NDArray[Any]]) -> bool:
        velocity = arrays[self.name]
        return bool(velocity.min() < 0 or velocity.max() > 1 or not velocity.any())

    def of_notes(self, notes: Sequence[Sequence[int]], instrument: str | None) -> Points:
        return note_points(notes, lambda pitch, velocity: velocity / MAX_VELOCITY, 0.0)

    def read(self, value: Any) -> tuple[Value, str]:
        level = number(value, "a velocity")
        if not 0 <= level <= 1:
            raise UserError(f"velocity {level:g} is outside 0..1; divide MIDI velocities by 127, write null for free")
        return level, ""

    def write(self, value: Value) -> float | str | None:
        return float(str(np.float32(value))) if isinstance(value, float) else value

    def column(self, value: Any, instruments: Sequence[str]) -> NDArray[np.float64]:
        return np.array([value])

    def value(self, column: Float32, sounding: bool, instruments: Sequence[str]) -> Value:
        return shortest(column[0], "velocity")

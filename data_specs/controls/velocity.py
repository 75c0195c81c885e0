"""The control feature `velocity`."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_specs.controls.base import (
    MAX_VELOCITY,
    Control,
    Float32,
    FrameNotes,
    Interpolation,
    Points,
    Value,
    note_points,
    parse_number,
    shortest_decimal,
)
from data_specs.errors import UserError


class Velocity(Control):
    """MIDI velocity of the sounding note / 127, moving inside notes under automation; 0 in rests."""

    name = "velocity"
    lane = "area"
    unit = "MIDI velocity / 127"
    default: Interpolation = "linear"

    def from_frames(self, notes: FrameNotes) -> NDArray[Any]:
        return np.where(notes.sounding, notes.velocity / MAX_VELOCITY, 0)

    def is_invalid(self, arrays: Mapping[str, NDArray[Any]]) -> bool:
        velocity = arrays[self.name]
        return bool(velocity.min() < 0 or velocity.max() > 1 or not velocity.any())

    def from_notes(self, notes: Sequence[Sequence[int]], instrument: str | None) -> Points:
        return note_points(notes, lambda pitch, velocity: velocity / MAX_VELOCITY, 0.0)

    def parse(self, value: Any) -> tuple[Value, str]:
        level = parse_number(value, "velocity")
        if not 0 <= level <= 1:
            raise UserError(f"velocity must be in 0..1, got {level:g}; divide MIDI velocities by 127, or write null")
        return level, ""

    def format(self, value: Value) -> float | str | None:
        return float(str(np.float32(value))) if isinstance(value, float) else value

    def to_frame(self, value: Any, instruments: Sequence[str]) -> NDArray[np.float64]:
        return np.array([value])

    def from_frame(self, frame: Float32, sounding: bool, instruments: Sequence[str]) -> Value:
        return shortest_decimal(frame[0], "velocity")

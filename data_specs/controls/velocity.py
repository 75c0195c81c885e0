"""The control feature `velocity`."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_specs.controls.base import (
    MAX_VELOCITY,
    FrameNotes,
    LevelControl,
    Points,
    note_points,
)


class Velocity(LevelControl):
    """MIDI velocity of the sounding note / 127, in 0..1, moving inside notes under automation; 0 in rests."""

    name = "velocity"
    lane = "area"
    unit = "MIDI velocity / 127"
    advice = "divide MIDI velocities by 127, or write null"

    def from_frames(self, notes: FrameNotes) -> NDArray[Any]:
        return np.where(notes.sounding, notes.velocity / MAX_VELOCITY, 0)

    def is_invalid(self, arrays: Mapping[str, NDArray[Any]]) -> bool:
        velocity = arrays[self.name]
        return bool(velocity.min() < 0 or velocity.max() > 1 or not velocity.any())

    def from_notes(self, notes: Sequence[Sequence[int]], instrument: str | None) -> Points:
        return note_points(notes, lambda pitch, velocity: velocity / MAX_VELOCITY, 0.0)

"""The control feature `brightness`."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_specs.controls.base import (
    Control,
    Float32,
    FrameNotes,
    Interpolation,
    Value,
    parse_number,
    shortest_decimal,
)
from data_specs.errors import UserError


class Brightness(Control):
    """Filter cutoff: 1 is the preset's own, 0 is lower by the spec's depth for the instrument. Continues in rests."""

    name = "brightness"
    unit = "share of the cutoff depth in cents"
    default: Interpolation = "linear"

    def from_frames(self, notes: FrameNotes) -> NDArray[Any]:
        return notes.brightness

    def is_invalid(self, arrays: Mapping[str, NDArray[Any]]) -> bool:
        return bool(arrays[self.name].min() < 0 or arrays[self.name].max() > 1)

    def parse(self, value: Any) -> tuple[Value, str]:
        level = parse_number(value, "brightness")
        if not 0 <= level <= 1:
            raise UserError(f"brightness must be in 0..1, got {level:g}; 1 is an open filter, null is unconditioned")
        return level, ""

    def format(self, value: Value) -> float | str | None:
        return float(str(np.float32(value))) if isinstance(value, float) else value

    def to_frame(self, value: Any, instruments: Sequence[str]) -> NDArray[np.float64]:
        return np.array([value])

    def from_frame(self, frame: Float32, sounding: bool, instruments: Sequence[str]) -> Value:
        return shortest_decimal(frame[0], self.name)

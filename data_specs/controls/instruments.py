"""The control feature `instruments`."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_specs.arrays import Float32, Float64
from data_specs.controls.base import (
    UNCONDITIONED,
    Control,
    FrameNotes,
    Interpolation,
    Points,
    Value,
    abbreviate,
)
from data_specs.errors import UserError


class Instruments(Control):
    """The instrument, one-hot: one row per instrument, 1 for the one that plays or, in rests, played last; else 0."""

    name = "instruments"
    lane = "strip"
    unit = "one-hot"
    interpolations: tuple[Interpolation, ...] = ("step",)
    one_row = False

    def from_frames(self, notes: FrameNotes) -> NDArray[Any]:
        one_hot = np.zeros((notes.instruments, len(notes.sounding)))
        # promise: frame-i-looks-sample-4
        one_hot[notes.instrument, np.arange(len(notes.instrument))] = 1.0
        return one_hot

    def is_invalid(self, arrays: Mapping[str, NDArray[Any]]) -> bool:
        rows = arrays[self.name]
        return bool(not np.array_equal(rows.sum(0), np.ones(rows.shape[1])) or not np.isin(rows, (0, 1)).all())

    def from_notes(self, notes: Sequence[Sequence[int]], instrument: str | None) -> Points:
        return () if instrument is None else ((0, instrument),)

    def parse(self, value: Any) -> tuple[Value, str]:
        if not isinstance(value, str) or not value.strip():
            raise UserError(f"instrument must be a name in quotes, or null; got {abbreviate(value)}")
        return value.strip(), ""

    def rows(self, instruments: int) -> int:
        return instruments

    def to_frame(self, value: Any, instruments: Sequence[str]) -> Float64:
        if value not in instruments:
            raise UserError(f"instrument must be one of {', '.join(instruments)}; got {abbreviate(value)}")
        return np.array([float(name == value) for name in instruments])

    def from_frame(self, frame: Float32, sounding: bool, instruments: Sequence[str]) -> Value:
        if (frame == UNCONDITIONED).all():
            return None
        playing = np.flatnonzero(frame)
        if len(playing) != 1 or frame[playing[0]] != 1:
            raise UserError("instruments must be one-hot, or -1 for unconditioned, at every frame that curves describe")
        return instruments[playing[0]]

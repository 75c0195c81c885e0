"""The control feature `instruments`."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_specs.controls.base import UNCONDITIONED, Control, Float32, FrameNotes, Interpolation, Points, Value, shown
from data_specs.errors import UserError


class Instruments(Control):
    """Which instrument plays: one row each, 1 for the one that does, rests included."""

    name = "instruments"
    interpolations: tuple[Interpolation, ...] = ("step",)
    one_row = False

    def from_frames(self, played: FrameNotes) -> NDArray[Any]:
        one_hot = np.zeros((played.instruments, len(played.sounding)))
        # promise: frame-i-looks-sample-4
        one_hot[played.instrument] = 1.0
        return one_hot

    def faulty(self, arrays: Mapping[str, NDArray[Any]]) -> bool:
        rows = arrays[self.name]
        return bool(not np.array_equal(rows.sum(0), np.ones(rows.shape[1])) or (rows != rows[:, :1]).any())

    def of_notes(self, notes: Sequence[Sequence[int]], instrument: str | None) -> Points:
        return () if instrument is None else ((0, instrument),)

    def read(self, value: Any) -> tuple[Value, str]:
        if not isinstance(value, str) or not value.strip():
            raise UserError(f"{shown(value)} is no instrument; write its name in quotes, or null for free")
        return value.strip(), ""

    def rows(self, instruments: int) -> int:
        return instruments

    def column(self, value: Any, instruments: Sequence[str]) -> NDArray[np.float64]:
        if value not in instruments:
            raise UserError(f"instrument {shown(value)} is not known here; choose from {', '.join(instruments)}")
        return np.array([float(name == value) for name in instruments])

    def value(self, column: Float32, sounding: bool, instruments: Sequence[str]) -> Value:
        if (column == UNCONDITIONED).all():
            return None
        playing = np.flatnonzero(column)
        if len(playing) != 1 or column[playing[0]] != 1:
            raise UserError("instruments are neither one at a time nor free; curves cannot describe that")
        return instruments[playing[0]]

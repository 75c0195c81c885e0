"""The control feature `brightness`."""

from collections.abc import Mapping
from typing import Any

from numpy.typing import NDArray

from data_specs.controls.base import (
    FrameNotes,
    LevelControl,
)


class Brightness(LevelControl):
    """Filter cutoff: 1 is the preset's own, 0 is lower by the spec's depth for the instrument. Continues in rests."""

    name = "brightness"
    unit = "share of the cutoff depth in cents"
    advice = "1 is an open filter, null is unconditioned"

    def from_frames(self, notes: FrameNotes) -> NDArray[Any]:
        return notes.brightness

    def is_invalid(self, arrays: Mapping[str, NDArray[Any]]) -> bool:
        return bool(arrays[self.name].min() < 0 or arrays[self.name].max() > 1)

"""Control features of a clip, exact by construction. A feature is one file and one line here.

T frames, I instruments. Shards, their reader, curve files and networks take all of `CONTROLS`; `Controls` are the three
of the published datasets, which is what measures of adherence are about.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_specs.controls.base import UNCONDITIONED, Control, Float32, frame_notes
from data_specs.controls.chroma import CHROMA_STEPS, NOTES, Chroma
from data_specs.controls.instruments import Instruments
from data_specs.controls.velocity import MAX_VELOCITY, Velocity

__all__ = [
    "CHROMA",
    "CHROMA_STEPS",
    "CONTROLS",
    "FEATURES",
    "INSTRUMENTS",
    "MAX_VELOCITY",
    "NOTES",
    "UNCONDITIONED",
    "VELOCITY",
    "Control",
    "Controls",
    "control_arrays",
    "controls",
]

CONTROLS: dict[str, Control] = {
    Velocity.name: Velocity(),
    Chroma.name: Chroma(),
    Instruments.name: Instruments(),
}
VELOCITY, CHROMA, INSTRUMENTS = FEATURES = (Velocity.name, Chroma.name, Instruments.name)


@dataclass(frozen=True)
class Controls:
    """The published features of one clip, float32."""

    velocity: np.ndarray  # [T], velocity / 127, 0 in rests
    chroma: np.ndarray  # [T], pitch class / 11, 0 in rests
    instruments: np.ndarray  # [I, T], 1 for the clip's instrument, rests included


def control_arrays(notes: NDArray[Any], instrument: int, instruments: int, frames: int, hop: int) -> dict[str, Float32]:
    """Every feature of one clip by name, float32 [T] or [R, T]; arguments and errors as of `played_notes`."""
    played = frame_notes(notes, instrument, instruments, frames, hop)
    return {name: np.asarray(control.from_frames(played), np.float32) for name, control in CONTROLS.items()}


def controls(notes: NDArray[Any], instrument: int, instruments: int, frames: int, hop: int) -> Controls:
    """The published features of one clip; arguments and errors as of `played_notes`."""
    arrays = control_arrays(notes, instrument, instruments, frames, hop)
    return Controls(*(arrays[name] for name in FEATURES))

"""Control features of a clip, from its notes or measured from its audio. A control is one entry in `CONTROLS`.

Shards, their reader, curve files, networks, figures and pages use the controls in the order of `CONTROLS`.
T frames, R rows of a feature.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_specs.arrays import Float32
from data_specs.controls.automation import Automation
from data_specs.controls.base import MAX_VELOCITY, UNCONDITIONED, Control, frame_notes
from data_specs.controls.brightness import Brightness
from data_specs.controls.chroma import CHROMA_STEPS, NOTES, Chroma
from data_specs.controls.instruments import Instruments
from data_specs.controls.measured import Centroid, Loudness, Noisiness
from data_specs.controls.pitch import Pitch
from data_specs.controls.velocity import Velocity

__all__ = [
    "CHROMA",
    "CHROMA_STEPS",
    "CONTROLS",
    "FEATURES",
    "INSTRUMENTS",
    "MAX_VELOCITY",
    "NOTES",
    "PITCH",
    "UNCONDITIONED",
    "VELOCITY",
    "Control",
    "control_arrays",
]

CONTROLS: dict[str, Control] = {
    Velocity.name: Velocity(),
    Chroma.name: Chroma(),
    Pitch.name: Pitch(),
    Brightness.name: Brightness(),
    Loudness.name: Loudness(),
    Centroid.name: Centroid(),
    Noisiness.name: Noisiness(),
    Instruments.name: Instruments(),
}
VELOCITY, CHROMA, INSTRUMENTS = FEATURES = (Velocity.name, Chroma.name, Instruments.name)
PITCH = Pitch.name


def control_arrays(
    notes: NDArray[Any],
    instrument: int,
    instruments: int,
    frames: int,
    hop: int,
    names: Sequence[str] = FEATURES,
    automation: Automation | None = None,
) -> dict[str, Float32]:
    """Return the features `names` of one clip, computed from its notes, float32 [T], or [R, T] if a feature has rows.

    The other arguments, and the errors raised, are those of `frame_notes`.

    Raises:
        NotImplementedError: a feature is measured from audio.
    """
    at_frames = frame_notes(notes, instrument, instruments, frames, hop, automation)
    return {name: np.asarray(CONTROLS[name].from_frames(at_frames), np.float32) for name in names}

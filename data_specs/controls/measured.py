"""The control features that are measured from a clip's audio: `loudness`, `centroid` and `noisiness`."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_specs.arrays import Float32
from data_specs.controls.base import (
    UNCONDITIONED,
    LevelControl,
)

QUIETEST_DB = 80.0  # below full scale, stored as 0
CENTROID_SPAN = 120.0  # semitones above 20 Hz that are stored as 1: 20 480 Hz


class MeasuredControl(LevelControl):
    """A descriptor of the audio, scaled and clipped to 0..1; unconditioned at frames where it is undefined."""

    origin = "measured"

    def is_invalid(self, arrays: Mapping[str, NDArray[Any]]) -> bool:
        values = arrays[self.name]
        return bool((((values < 0) | (values > 1)) & (values != UNCONDITIONED)).any())


class Loudness(MeasuredControl):
    """A-weighted level over 43 ms, (dB + 80) / 80 clipped to 0..1; a full-scale sine at 1 kHz has -3 dB."""

    name = "loudness"
    descriptor = "loudness"
    unit = "(dB + 80) / 80, A-weighted"

    def from_descriptor(self, values: Float32) -> NDArray[Any]:
        return np.clip(values / QUIETEST_DB + 1, 0, 1)


class Centroid(MeasuredControl):
    """Spectral centroid in semitones above 20 Hz, divided by 120 and clipped to 0..1; unconditioned in silence."""

    name = "centroid"
    descriptor = "centroid"
    unit = "semitones above 20 Hz / 120"

    def from_descriptor(self, values: Float32) -> NDArray[Any]:
        return np.nan_to_num(np.clip(values / CENTROID_SPAN, 0, 1), nan=UNCONDITIONED)


class Noisiness(MeasuredControl):
    """Share of the energy off the harmonics of the pitch, 0..1; 1 without a pitch, unconditioned in silence."""

    name = "noisiness"
    descriptor = "noisiness"
    unit = "share of the energy off the harmonics"

    def from_descriptor(self, values: Float32) -> NDArray[Any]:
        return np.nan_to_num(np.clip(values, 0, 1), nan=UNCONDITIONED)

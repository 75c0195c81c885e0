"""Modulation of note velocities: the slow sine of the published datasets."""

import math
from dataclasses import dataclass
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

from data_specs.spec import ModulationSpec
from pipeline.melody.windows import ONSET, VELOCITY, Notes


@dataclass(frozen=True)
class Modulation:
    """The sine that scales a clip's velocities: m(t) = 1 - depth (1 + sin(2 pi f t + phase)) / 2, t in s."""

    hz: float
    phase: float  # radians
    depth: float

    def __call__(self, seconds: NDArray[np.float64]) -> NDArray[np.float64]:
        """Evaluate m at times in seconds, [n]."""
        return np.asarray(1 - self.depth * (1 + np.sin(2 * math.pi * self.hz * seconds + self.phase)) / 2)


def modulation(spec: ModulationSpec, seed: int, clip_id: str) -> Modulation:
    """Draw a clip's modulation from seed and id: frequency log-uniform between the spec's bounds, phase uniform."""
    # promise: clip-s-modulation-function
    words = blake2b(f"{seed}/{clip_id}".encode(), digest_size=16).digest()
    first, second = (int.from_bytes(words[i : i + 8], "little") / 2**64 for i in (0, 8))
    hz = spec.lowest_hz * (spec.highest_hz / spec.lowest_hz) ** first
    return Modulation(hz, 2 * math.pi * second, spec.depth)


def modulated(velocity: NDArray[np.int32], onset: NDArray[np.int32], shape: Modulation, rate: int) -> NDArray[np.int32]:
    """Scale velocities [n] by the modulation at each onset (samples at `rate`); round half up, clip to 1..127."""
    # promise: clip-s-modulation-function-2
    scaled = np.floor(velocity * shape(onset / rate) + 0.5)
    # promise: clip-s-modulation-function-3
    return np.clip(scaled, 1, 127).astype(np.int32)


def with_modulation(notes: Notes, shape: Modulation, rate: int) -> Notes:
    """Return notes [n, 4] with modulated velocities, as sent to the synthesizer."""
    played = notes.copy()
    played[:, VELOCITY] = modulated(notes[:, VELOCITY], notes[:, ONSET], shape, rate)
    return played

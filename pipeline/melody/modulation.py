"""Modulation of note velocities by a slow sine, as in the published datasets."""

import math
from dataclasses import dataclass
from hashlib import blake2b

import numpy as np

from data_specs.arrays import Float64
from data_specs.spec import ModulationSpec
from pipeline.melody.windows import ONSET, VELOCITY, Notes


@dataclass(frozen=True)
class Modulation:
    """The sine that scales a clip's velocities: m(t) = 1 - depth (1 + sin(2 pi hz t + phase)) / 2, t in seconds."""

    hz: float
    phase: float  # radians
    depth: float

    def __call__(self, seconds: Float64) -> Float64:
        """Return m, float64 [n], at times `seconds` [n] from the start of the clip."""
        return np.asarray(1 - self.depth * (1 + np.sin(2 * math.pi * self.hz * seconds + self.phase)) / 2)


def modulation(spec: ModulationSpec, seed: int, clip_id: str) -> Modulation:
    """Return the modulation of a clip, whose frequency and phase are random numbers fixed by the seed and the clip id.

    The logarithm of the frequency is uniform between the spec's bounds, the phase uniform in 0..2 pi. The depth is the
    spec's.
    """
    # promise: clip-s-modulation-function
    words = blake2b(f"{seed}/{clip_id}".encode(), digest_size=16).digest()
    first, second = (int.from_bytes(words[i : i + 8], "little") / 2**64 for i in (0, 8))
    hz = spec.lowest_hz * (spec.highest_hz / spec.lowest_hz) ** first
    return Modulation(hz, 2 * math.pi * second, spec.depth)


def with_modulation(notes: Notes, shape: Modulation, rate: int) -> Notes:
    """Return a copy of notes [n, 4], each velocity scaled by `shape` at the onset, rounded and limited to 1..127.

    Onsets are in samples; `rate` is the sample rate in Hz.
    """
    # promise: clip-s-modulation-function-2
    scaled = np.floor(notes[:, VELOCITY] * shape(notes[:, ONSET] / rate) + 0.5)
    played = notes.copy()
    # promise: clip-s-modulation-function-3
    played[:, VELOCITY] = np.clip(scaled, 1, 127)
    return played

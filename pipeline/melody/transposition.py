"""From a window as the song has it to the notes a clip plays: key shift, octave move, folding, modulated velocity."""

import math
from dataclasses import dataclass
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

from data_specs.spec import Clip
from data_specs.spec import Modulation as ModulationSpec
from pipeline.melody.extraction import ONSET, PITCH, VELOCITY, Notes

OCTAVES = np.arange(-10, 11) * 12  # every move that can bring a MIDI pitch into any range
_ROOM = 132  # on either side of the pitches, for every move and shift
_MOVES = _ROOM - np.arange(12)[:, None] - OCTAVES  # place of pitch 0 before a shift (rows) and a move (columns)


@dataclass(frozen=True)
class Modulation:
    """The sine that scales a clip's velocities: m(t) = 1 - depth (1 + sin(2 pi f t + phase)) / 2, t in s."""

    hz: float
    phase: float  # radians
    depth: float

    def __call__(self, seconds: NDArray[np.float64]) -> NDArray[np.float64]:
        """m at the times `seconds`, [n]."""
        return np.asarray(1 - self.depth * (1 + np.sin(2 * math.pi * self.hz * seconds + self.phase)) / 2)


def modulation(spec: ModulationSpec, seed: int, clip_id: str) -> Modulation:
    """A clip's modulation from seed and id: frequency log-uniform between the spec's bounds, phase uniform."""
    # promise: clip-s-modulation-function
    words = blake2b(f"{seed}/{clip_id}".encode(), digest_size=16).digest()
    first, second = (int.from_bytes(words[i : i + 8], "little") / 2**64 for i in (0, 8))
    hz = spec.lowest_hz * (spec.highest_hz / spec.lowest_hz) ** first
    return Modulation(hz, 2 * math.pi * second, spec.depth)


def modulated(velocity: NDArray[np.int32], onset: NDArray[np.int32], shape: Modulation, rate: int) -> NDArray[np.int32]:
    """Velocities [n] scaled by the modulation at each onset (samples at `rate`), rounded half up, within 1..127."""
    # promise: clip-s-modulation-function-2
    scaled = np.floor(velocity * shape(onset / rate) + 0.5)
    # promise: clip-s-modulation-function-3
    return np.clip(scaled, 1, 127).astype(np.int32)


def octave_move(pitch: NDArray[np.int32], clip: Clip) -> int:
    """The move of all notes, in whole octaves, that leaves the fewest outside; the smallest such, up if tied."""
    moved = pitch[None, :] + OCTAVES[:, None]
    outside = ((moved < clip.lowest_pitch) | (moved > clip.highest_pitch)).sum(axis=1)
    return min(zip(outside.tolist(), np.abs(OCTAVES).tolist(), (-OCTAVES).tolist(), strict=True))[2] * -1


def folded_into_range(pitch: NDArray[np.int32], clip: Clip) -> NDArray[np.int32]:
    """Pitches [n], those outside moved by as few whole octaves as bring them into the range."""
    up = -(-np.maximum(clip.lowest_pitch - pitch, 0) // 12)
    # promise: octave-move-leaves-fewest
    down = -(-np.maximum(pitch - clip.highest_pitch, 0) // 12)
    return np.asarray(pitch + 12 * (up - down), np.int32)


def fitting_keys(notes: Notes, clip: Clip) -> int:
    """Bit c of the result: whether the window, shifted by c semitones, needs no more notes folded than `max_folded`.

    Shifts an octave apart fit alike, since the octave move comes after: 12 bits tell all.
    """
    below = np.cumsum(np.bincount(notes[:, PITCH] + _ROOM, minlength=2 * _ROOM + 128))
    inside = below[_MOVES + clip.highest_pitch] - below[_MOVES + clip.lowest_pitch - 1]  # [12, octaves]
    # promise: octave-move-leaves-fewest-2
    fits = len(notes) - inside.max(axis=1) <= clip.max_folded * len(notes)
    return int(fits @ (1 << np.arange(12)))


def perform(notes: Notes, key_shift: int, clip: Clip) -> tuple[Notes, int, int]:
    """The window in the clip's key and range: notes [n, 4], octave move in semitones, number of notes folded."""
    played = notes.copy()
    shifted = notes[:, PITCH] + key_shift
    octave = octave_move(shifted, clip)
    played[:, PITCH] = folded_into_range(shifted + octave, clip)
    return played, octave, int((played[:, PITCH] != shifted + octave).sum())


def with_modulation(notes: Notes, shape: Modulation, rate: int) -> Notes:
    """Notes [n, 4] with the velocities that are sent to the synthesizer."""
    played = notes.copy()
    played[:, VELOCITY] = modulated(notes[:, VELOCITY], notes[:, ONSET], shape, rate)
    return played

"""Listening level of a set of sounds: loudness after ITU-R BS.1770-4, and one gain that brings the set to a target."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from data_specs.arrays import Float64

TARGET_LUFS = -20.0
PEAK = 10 ** (-1 / 20)  # -1 dBFS
BLOCK_SECONDS, OVERLAP = 0.4, 4  # blocks start every quarter of their length
ABSOLUTE_GATE, RELATIVE_GATE = -70.0, -10.0  # LUFS; LU below the mean of the blocks above the absolute gate
OFFSET = -0.691  # dB: a sine of 997 Hz at full scale has -3.01 LUFS


def loudness(sounds: Sequence[NDArray[np.floating]], sample_rate: int) -> float:
    """Return the gated loudness of mono sounds, each [N], in LUFS (BS.1770-4, annex 1).

    The blocks of all sounds (at least one) are gated and averaged together. -inf if no block of 0.4 s exceeds -70 LUFS.
    """
    energies = np.concatenate([_block_energies(np.asarray(one, np.float64), sample_rate) for one in sounds])
    energies = energies[energies > _energy(ABSOLUTE_GATE)]
    if len(energies):
        energies = energies[energies > energies.mean() * 10 ** (RELATIVE_GATE / 10)]
    return OFFSET + 10 * math.log10(energies.mean()) if len(energies) else -math.inf


def listening_gain(sounds: Sequence[NDArray[np.floating]], sample_rate: int) -> float:
    """Return the one factor that brings mono sounds, each [N], together to -20 LUFS.

    It is less where the highest peak would exceed -1 dBFS, and 1 where no block is above -70 LUFS.
    """
    level = loudness(sounds, sample_rate)
    peak = max((float(np.abs(one).max(initial=0.0)) for one in sounds), default=0.0)
    return 1.0 if math.isinf(level) or not peak else min(10 ** ((TARGET_LUFS - level) / 20), PEAK / peak)


def _energy(lufs: float) -> float:
    return float(10 ** ((lufs - OFFSET) / 10))


def _block_energies(sound: Float64, sample_rate: int) -> Float64:
    """Return the mean square of each block of the K-weighted sound [N], float64 [blocks].

    Blocks last 0.4 s and start every 0.1 s. A shorter sound is one block of its own length, an empty one gives none.
    """
    from scipy.signal import lfilter

    for numerator, denominator in _k_weighting(sample_rate):
        sound = lfilter(numerator, denominator, sound)
    size = round(BLOCK_SECONDS * sample_rate)
    hop = size // OVERLAP
    if len(sound) < size:
        return np.array([np.square(sound).mean()]) if len(sound) else np.zeros(0)
    sums = np.concatenate([[0.0], np.cumsum(np.square(sound))])
    starts = np.arange(0, len(sound) - size + 1, hop)
    return np.asarray((sums[starts + size] - sums[starts]) / size)


def _k_weighting(sample_rate: int) -> list[tuple[list[float], list[float]]]:
    """Return (numerator, denominator) of the digital high shelf, then of the high pass, at `sample_rate` in Hz.

    They are derived from the analogue prototypes, so that any rate above twice 1682 Hz will do.
    """
    k, q = math.tan(math.pi * 1681.974450955533 / sample_rate), 0.7071752369554196
    gain = 10 ** (3.999843853973347 / 20)
    middle, scale = gain**0.4996667741545416, 1 + k / q + k * k
    shelf = [
        (gain + middle * k / q + k * k) / scale,
        2 * (k * k - gain) / scale,
        (gain - middle * k / q + k * k) / scale,
    ]
    first = [1.0, 2 * (k * k - 1) / scale, (1 - k / q + k * k) / scale]
    k, q = math.tan(math.pi * 38.13547087602444 / sample_rate), 0.5003270373238773
    scale = 1 + k / q + k * k
    return [(shelf, first), ([1.0, -2.0, 1.0], [1.0, 2 * (k * k - 1) / scale, (1 - k / q + k * k) / scale])]

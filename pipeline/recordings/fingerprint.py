"""Fingerprints of events that survive another encoding, rate or gain, and the search for near-duplicates."""

import numpy as np
from numpy.typing import NDArray

from data_specs.hashing import UInt64
from data_specs.rates import SAMPLE_RATE

SEGMENTS, BANDS = 9, 9  # in time and frequency; their double differences give 8 x 8 bits
LOWEST_HZ, HIGHEST_HZ = 100.0, 6000.0
WINDOW = 1024
NEAR_BITS = 6  # of 64: two unrelated events differ in 32 on average
_BLOCK = 1 << 22  # pairs compared at once


def audio_fingerprint(audio: NDArray[np.float32]) -> int:
    """Return 64 bits of an event [N]: signs of the change over time of the slope over frequency of log energies.

    After Haitsma and Kalker (ISMIR 2002), over segments that divide the event evenly.
    """
    starts = np.linspace(0, max(0, len(audio) - WINDOW), 4 * SEGMENTS).round().astype(int)
    padded = np.pad(audio, (0, max(0, WINDOW - len(audio))))
    frames = np.stack([padded[start : start + WINDOW] for start in starts]) * np.hanning(WINDOW)
    power = np.square(np.abs(np.fft.rfft(frames))).reshape(SEGMENTS, 4, -1).sum(axis=1)
    edges = np.geomspace(LOWEST_HZ, HIGHEST_HZ, BANDS + 1) * WINDOW / SAMPLE_RATE
    bins = np.unique(edges.round().astype(int), return_index=False)
    energy = np.log(np.add.reduceat(power[:, : bins[-1]], bins[:-1], axis=1) + 1e-9 * power.sum() + 1e-20)
    bits = np.diff(np.diff(energy, axis=0), axis=1) > 0
    return int(sum(1 << i for i, bit in enumerate(bits.ravel().tolist()) if bit))


class NearFingerprints:
    """Fingerprints of valid events, and whether a similar one occurs in train."""

    def __init__(self, valid: UInt64) -> None:
        self.values = np.unique(valid)
        self.known = np.zeros(len(self.values), np.bool_)

    def add_train(self, fingerprints: UInt64) -> None:
        """Mark those that differ from one of `fingerprints` in at most NEAR_BITS bits."""
        others = np.unique(fingerprints)
        if not len(self.values) or not len(others):
            return
        step = max(1, _BLOCK // len(self.values))
        for start in range(0, len(others), step):
            distance = np.bitwise_count(self.values[:, None] ^ others[None, start : start + step])
            self.known |= (distance <= NEAR_BITS).any(axis=1)

    def is_known(self, fingerprints: UInt64) -> NDArray[np.bool_]:
        """Return which of the valid `fingerprints` have a similar one in train, bool [n]."""
        return np.asarray(self.known[np.searchsorted(self.values, fingerprints)])

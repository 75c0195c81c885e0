"""Near-duplicates among events: the same sound at another rate, gain or encoding, found by coarse spectrograms."""

import numpy as np
from numpy.typing import NDArray

from data_specs.rates import SAMPLE_RATE

SEGMENTS, BANDS = 8, 16  # of time, dividing the event evenly, and of frequency
LOWEST_HZ, HIGHEST_HZ = 100.0, 6000.0
WINDOW, HOP = 1024, 256  # samples
RANGE_DB = 50  # below the largest energy, where encodings differ
NEAR_DB = 3.0  # root mean square difference of two spectrograms of one sound
BLOCK = 4096  # events compared at once

Shapes = NDArray[np.int32]  # [n, SEGMENTS * BANDS], dB above the floor


def spectral_shape(audio: NDArray[np.float32]) -> NDArray[np.int32]:
    """Return the energies of an event [N] by segment and band in dB above the floor, int32 [SEGMENTS * BANDS]."""
    padded = np.pad(audio, (WINDOW // 2, WINDOW // 2 + max(0, SEGMENTS * HOP - len(audio))))
    frames = np.lib.stride_tricks.sliding_window_view(padded, WINDOW)[::HOP] * np.hanning(WINDOW).astype(np.float32)
    power = np.square(np.abs(np.fft.rfft(frames)))
    edges = (np.geomspace(LOWEST_HZ, HIGHEST_HZ, BANDS + 1) * WINDOW / SAMPLE_RATE).round().astype(int)
    of_band = np.add.reduceat(power[:, : edges[-1]], edges[:-1], axis=1)
    segments = np.linspace(0, len(of_band), SEGMENTS + 1).round().astype(int)
    energy = np.add.reduceat(of_band, segments[:-1], axis=0) / np.diff(segments)[:, None]
    level = 10 * np.log10(energy / max(float(energy.max()), 1e-20) + 10 ** (-RANGE_DB / 10)) + RANGE_DB
    return np.asarray(level.round().astype(np.int32).ravel())


def near(events: Shapes, others: Shapes) -> NDArray[np.bool_]:
    """Return which of `events` have a near-duplicate among `others`, bool [n]."""
    found = np.zeros(len(events), np.bool_)
    most = NEAR_DB**2 * SEGMENTS * BANDS
    a = events.astype(np.float32)
    for start in range(0, len(others), BLOCK):
        b = others[start : start + BLOCK].astype(np.float32)
        for row in range(0, len(a), BLOCK):
            part = a[row : row + BLOCK]
            squares = np.square(part).sum(1)[:, None] + np.square(b).sum(1) - 2 * part @ b.T
            found[row : row + BLOCK] |= (squares <= most).any(axis=1)
    return found

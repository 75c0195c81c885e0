"""Near-duplicates among events: the same sound at another sample rate, gain or encoding.

They are found by comparing coarse spectrograms, whose levels are relative to the largest energy of their own event.
"""

import numpy as np

from data_specs.arrays import Bool, Float32, Int32
from data_specs.rates import SAMPLE_RATE

SEGMENTS, BANDS = 8, 16  # numbers of equal segments of an event and of frequency bands
LOWEST_HZ, HIGHEST_HZ = 100.0, 6000.0
WINDOW, HOP = 1024, 256  # samples
RANGE_DB = 50  # below the largest energy is the floor, under which encodings differ
NEAR_DB = 3.0  # largest root mean square difference of two spectrograms of one sound
BLOCK = 4096  # events that are compared at once

Shapes = Int32  # [n, SEGMENTS * BANDS], dB above the floor


def spectral_shape(audio: Float32) -> Int32:
    """Return a coarse spectrogram of an event [N] at 24 kHz: integer levels 0..50 dB, int32 [SEGMENTS * BANDS].

    A level is the mean energy in one segment and band, in dB above a floor that is 50 dB below the largest one. There
    are 8 segments of equal length and 16 bands from 100 Hz to 6 kHz with edges in geometric progression. All bands of
    the first segment come first. The levels of digital silence are 0.
    """
    padded = np.pad(audio, (WINDOW // 2, WINDOW // 2 + max(0, SEGMENTS * HOP - len(audio))))
    frames = np.lib.stride_tricks.sliding_window_view(padded, WINDOW)[::HOP] * np.hanning(WINDOW).astype(np.float32)
    power = np.square(np.abs(np.fft.rfft(frames)))
    edges = (np.geomspace(LOWEST_HZ, HIGHEST_HZ, BANDS + 1) * WINDOW / SAMPLE_RATE).round().astype(int)
    of_band = np.add.reduceat(power[:, : edges[-1]], edges[:-1], axis=1)
    segments = np.linspace(0, len(of_band), SEGMENTS + 1).round().astype(int)
    energy = np.add.reduceat(of_band, segments[:-1], axis=0) / np.diff(segments)[:, None]
    level = 10 * np.log10(energy / max(float(energy.max()), 1e-20) + 10 ** (-RANGE_DB / 10)) + RANGE_DB
    return np.asarray(level.round().astype(np.int32).ravel())


def near(events: Shapes, others: Shapes) -> Bool:
    """Return whether each of `events` has a near-duplicate among `others`, bool [n]; both are of `spectral_shape`.

    Two events are near-duplicates if the root mean square of the difference of their levels is at most 3 dB.

    Args:
        events: levels of n events, [n, SEGMENTS * BANDS].
        others: levels of m events, [m, SEGMENTS * BANDS].
    """
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

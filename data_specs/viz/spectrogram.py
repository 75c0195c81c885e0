"""Log-mel spectrograms for display. N samples, F mel bands, T frames."""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from data_specs.arrays import Float32, Float64
from data_specs.rates import SAMPLE_RATE

WINDOW = 2048
HOP = 240  # samples between columns: 10 ms
BANDS = 128
LOWEST_HZ = 60.0
HIGHEST_HZ = 8_000.0  # above it these instruments leave little to see
RANGE_DB = 65.0  # from the loudest point of what is shown together to black
SILENCE_DB = -120.0


def mel_db(audio: NDArray[np.floating]) -> Float32:
    """Return mel levels in dB of audio, float [N] at 24 kHz, as float32 [F, 1 + N // 240], from low to high bands.

    Column t is centred on sample 240 t. A sine at full scale has about 0 dB; levels are at least -120 dB.
    """
    padded = np.pad(np.asarray(audio, np.float32), WINDOW // 2)
    frames = np.lib.stride_tricks.sliding_window_view(padded, WINDOW)[::HOP]
    window, bank = _analysis()
    power = np.abs(np.fft.rfft(frames * window, axis=1)).astype(np.float32) ** 2
    return np.asarray(10 * np.log10(np.maximum(bank @ power.T, 10 ** (SILENCE_DB / 10))))


def ceiling_db(spectrograms: Sequence[Float32]) -> float:
    """Return the level in dB of the brightest color of spectrograms shown together: their maximum, at least -55 dB."""
    return max([SILENCE_DB + RANGE_DB, *(float(levels.max()) for levels in spectrograms)])


def band_hz() -> Float64:
    """Return the center frequency of each mel band in Hz, [F], ascending."""
    return _edges()[1:-1]


def _mel(hz: Float64 | float) -> Float64:
    """Convert Hz to mel by the formula of O'Shaughnessy 1987, as HTK does."""
    return np.asarray(2595 * np.log10(1 + np.asarray(hz) / 700))


def _edges() -> Float64:
    mels = np.linspace(_mel(LOWEST_HZ), _mel(HIGHEST_HZ), BANDS + 2)
    return np.asarray(700 * (10 ** (mels / 2595) - 1))


@lru_cache(maxsize=1)
def _analysis() -> tuple[Float32, Float32]:
    """Return the window [2048] and the triangular mel bands [F, bins].

    The window is scaled so that a sine at full scale has power 1 at its bin.
    """
    window = np.hanning(WINDOW + 1)[:-1]
    window *= 2 / window.sum()
    hz = np.fft.rfftfreq(WINDOW, 1 / SAMPLE_RATE)
    low, centre, high = (_edges()[k : k + BANDS, None] for k in range(3))
    # Low bands are narrower than a bin: at least a bin's width each, or they would hold nothing.
    width = SAMPLE_RATE / WINDOW
    rise = (hz - np.minimum(low, centre - width)) / np.maximum(centre - low, width)
    fall = (np.maximum(high, centre + width) - hz) / np.maximum(high - centre, width)
    bank = np.clip(np.minimum(rise, fall), 0, 1)
    return window.astype(np.float32), bank.astype(np.float32)

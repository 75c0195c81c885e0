"""Fundamental frequency by SwiftF0 (Nieradzik 2025), a small network: robust to noise. An optional package.

N samples at 24 kHz, T frames; frame i is centred on sample i * hop.
"""

import numpy as np

from data_specs.arrays import Float32
from data_specs.errors import UserError
from data_specs.rates import SAMPLE_RATE

NAME = "swift-f0"
VOICED = 0.5  # confidence of a voiced frame
GLIDE = 1.0  # semitones between frames of the network: pitch is interpolated up to this


def swift_pitch(audio: Float32, hop: int, frames: int) -> Float32:
    """Return MIDI note numbers with fractions, float32 [T], of audio, float32 [N] at 24 kHz; NaN where unvoiced.

    The network has a frame every 16 ms. Between two of its frames less than a semitone apart the pitch is interpolated;
    elsewhere, and next to unvoiced frames, it is that of the nearest, NaN if that is unvoiced.

    Raises:
        UserError: the package is not installed.
    """
    try:
        import swift_f0
    except ImportError as error:
        raise UserError(
            f"TRACKER={NAME} needs the package {error.name}; pip install 'pvt-audio[swift-f0]', or use TRACKER=yin"
        ) from error
    found = swift_f0.SwiftF0(threads=1).detect(audio, SAMPLE_RATE)
    midi = np.where(found.confidence >= VOICED, 69 + 12 * np.log2(found.pitch_hz / 440), np.nan)
    at = np.arange(frames) * (hop / SAMPLE_RATE / swift_f0.FRAME_PERIOD)
    before = np.minimum(at.astype(int), len(midi) - 1)
    after = np.minimum(before + 1, len(midi) - 1)
    nearest = midi[np.minimum(np.round(at).astype(int), len(midi) - 1)]
    slope = midi[after] - midi[before]
    return np.where(np.abs(slope) < GLIDE, midi[before] + slope * (at - before), nearest).astype(np.float32)

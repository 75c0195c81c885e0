"""Loudness, centroid and noisiness by librosa, independent of the code that measured the controls of the dataset.

Windows have the default length of librosa, 2048 samples (85 ms). B clips, N audio samples, F frames (every 10 ms).
"""

import math
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from data_specs.analysis.descriptors import LOUDNESS_FLOOR, LOWEST_HZ, SILENT_DB
from data_specs.analysis.pitch import HOP
from data_specs.arrays import Float32
from data_specs.rates import SAMPLE_RATE
from training.evaluation.features import FrameFeatures

WINDOW = 2048  # samples
HANN_RMS = math.sqrt(3 / 8)  # root mean square of the window


def librosa_features(audio: Tensor, features: FrameFeatures) -> FrameFeatures:
    """Return a copy of `features` whose loudness, centroid and noisiness are those of `audio` by librosa.

    Loudness is the A-weighted root mean square in dB re full scale, at least -80. The centroid is in semitones above 20
    Hz. Noisiness is the spectral flatness, whose scale is another, so that only its ranks can be compared.

    Args:
        audio: float32 [B, 1, N] at 24 kHz.
        features: features of the same clips, [B, F].
    """
    found = zip(*(_describe(clip, features.frames) for clip in audio[:, 0].float().cpu().numpy()), strict=True)
    loudness, centroid, noisiness = (np.stack(arrays).astype(np.float32) for arrays in found)
    return replace(features, loudness=loudness, centroid=centroid, noisiness=noisiness)


def _describe(audio: Float32, frames: int) -> tuple[NDArray[np.floating], ...]:
    """Return loudness, centroid and flatness, [F] each, of one clip [N]; the latter two are NaN in silence.

    The units are those of `librosa_features`; F = `frames`.
    """
    import librosa

    spectrum = np.abs(librosa.stft(audio, n_fft=WINDOW, hop_length=HOP))[:, :frames]
    frequencies = np.maximum(librosa.fft_frequencies(sr=SAMPLE_RATE, n_fft=WINDOW), 1.0)  # 0 Hz has no logarithm
    gains = librosa.db_to_amplitude(librosa.A_weighting(frequencies))
    level = librosa.feature.rms(S=spectrum * gains[:, None], frame_length=WINDOW)[0] / HANN_RMS
    loudness = np.maximum(librosa.amplitude_to_db(level, amin=1e-10, top_db=None), LOUDNESS_FLOOR)
    hertz = librosa.feature.spectral_centroid(S=spectrum, sr=SAMPLE_RATE)[0]
    centroid = 12 * np.log2(np.maximum(hertz, LOWEST_HZ) / LOWEST_HZ)
    flatness = librosa.feature.spectral_flatness(S=spectrum)[0]
    silent = loudness < SILENT_DB
    return loudness, np.where(silent, np.nan, centroid), np.where(silent, np.nan, flatness)

"""Degradations of audio by a known amount, for training the classifier; none imitates a particular codec.

B clips or excerpts of them, N audio samples.
"""

import numpy as np
import torch
from torch import Tensor

from data_specs.arrays import Float32

CLEAN_SHARE = 0.5  # probability that a clip is not degraded
RATIO_DB = (0.0, 60.0)  # range of the ratio of signal to degradation
STEEPEST = 1.5  # largest exponent a of hiss, whose amplitude is proportional to frequency ** -a
GATE_DB = (-50.0, -5.0)  # below the loudest bin of a frame
FFT, HOP = 1024, 512


def degrade(audio: Tensor, level: Tensor, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Return a copy of `audio` in which each excerpt is degraded with probability 1 - CLEAN_SHARE.

    The kind of each is drawn from the three functions below, and its amount from RATIO_DB.

    Args:
        audio: excerpts of clips, float32 [B, N].
        level: root mean square of the whole clip of each excerpt, [B]; noise relative to it also degrades rests.
        rng: generator of kinds, amounts and noise.

    Returns:
        The excerpts, and the ratio of `level` to the root mean square of the change in dB, [B]. The ratio is infinite
        where nothing changed, and NaN if `level` is 0 as well.
    """
    kinds = (hiss, multiplicative_noise, spectral_gate)
    kind = torch.from_numpy(rng.integers(len(kinds), size=len(audio)))
    kind[torch.from_numpy(rng.random(len(audio))) < CLEAN_SHARE] = -1
    ratio_db = rng.uniform(*RATIO_DB, len(audio)).astype(np.float32)
    out = audio.clone()
    for number, make in enumerate(kinds):
        chosen = kind == number
        if chosen.any():
            out[chosen] = make(audio[chosen], level[chosen], torch.from_numpy(ratio_db)[chosen], rng)
    return out, 20 * torch.log10(level / (out - audio).square().mean(-1).sqrt())


def hiss(audio: Tensor, level: Tensor, ratio_db: Tensor, rng: np.random.Generator) -> Tensor:
    """Return audio [B, N] plus noise whose root mean square is `ratio_db` [B] dB below `level` [B].

    The amplitude of the noise falls with frequency f as f ** -a, with a random exponent a of each clip in 0..STEEPEST.
    """
    noise = torch.fft.rfft(_normal(rng, audio.shape))
    slope = torch.from_numpy(rng.uniform(0, STEEPEST, (len(audio), 1)).astype(np.float32))
    coloured = torch.fft.irfft(noise * torch.arange(1, noise.shape[-1] + 1) ** -slope, n=audio.shape[-1])
    gain = level * 10 ** (-ratio_db / 20) / coloured.square().mean(-1).sqrt()
    return audio + gain[:, None] * coloured


def multiplicative_noise(audio: Tensor, level: Tensor, ratio_db: Tensor, rng: np.random.Generator) -> Tensor:
    """Return audio [B, N] with each bin of its spectrogram times 1 + noise (as the modulated noise of ITU-T P.810).

    The noise is complex, with root mean square 10 ** (-`ratio_db` / 20) for each clip. The noise of overlapping frames
    is averaged, so that the ratio of audio to its change is up to 4 dB above `ratio_db`. `level` is not used.
    """
    spectrum = _spectrum(audio)
    noise = torch.complex(_normal(rng, spectrum.shape), _normal(rng, spectrum.shape)) / 2**0.5
    return _sound(spectrum * (1 + noise * 10 ** (-ratio_db / 20)[:, None, None]), audio.shape[-1])


def spectral_gate(audio: Tensor, level: Tensor, ratio_db: Tensor, rng: np.random.Generator) -> Tensor:
    """Return audio [B, N] without the bins of its spectrogram that are far below the largest one of their frame.

    The limit is random for each clip, GATE_DB below the largest bin. `level` and `ratio_db` are not used.
    """
    spectrum = _spectrum(audio)
    magnitude = spectrum.abs()
    gate = torch.from_numpy(10 ** (rng.uniform(*GATE_DB, (len(audio), 1, 1)) / 20)).float()
    return _sound(spectrum * (magnitude >= gate * magnitude.amax(1, keepdim=True)), audio.shape[-1])


def _normal(rng: np.random.Generator, shape: torch.Size) -> Tensor:
    values: Float32 = rng.standard_normal(tuple(shape), dtype=np.float32)
    return torch.from_numpy(values)


def _spectrum(audio: Tensor) -> Tensor:
    return torch.stft(audio, FFT, HOP, window=torch.hann_window(FFT), return_complex=True)


def _sound(spectrum: Tensor, samples: int) -> Tensor:
    return torch.istft(spectrum, FFT, HOP, window=torch.hann_window(FFT), length=samples)

"""Losses of codec training, for each clip [B]. B clips, N samples, K STFT bins, F frames, M mel bands."""

from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor

from data_specs.rates import SAMPLE_RATE
from training.evaluation.logmel import LogMel

QUIET = 1e-5  # added to magnitudes before the logarithm
FAINT = 1e-3  # smallest divisor of a relative loss


def stft_loss(audio: Tensor, target: Tensor, windows: Sequence[int]) -> Tensor:
    """Return the multi-resolution STFT loss of `audio` against `target`, both [B, 1, N]: [B].

    It is the mean over `windows` (lengths in samples, hops of a quarter) of two terms (Yamamoto et al. 2020, eq. 6 to
    8). The first is the norm of the difference of magnitudes, divided by that of the target or, if larger, by 0.001
    times the length of the window. The second is the mean absolute difference of natural logarithms of magnitudes plus
    1e-5.
    """
    total = audio.new_zeros(len(audio))
    for size in windows:
        made, real = magnitudes(audio, size), magnitudes(target, size)
        length = real.square().sum((1, 2)).sqrt()
        convergence = (made - real).square().sum((1, 2)).add(1e-12).sqrt() / length.clamp(min=FAINT * size)
        distance = ((made + QUIET).log() - (real + QUIET).log()).abs().mean((1, 2))
        total = total + convergence + distance
    return total / len(windows)


def mel_loss(audio: Tensor, target: Tensor, window: int, bands: int) -> Tensor:
    """Return the mean absolute difference of the `log_mel` spectra of `audio` and `target`, both [B, 1, N]: [B].

    Windows have `window` samples and hops of a quarter; there are `bands` mel bands.
    """
    return (log_mel(magnitudes(audio, window), bands) - log_mel(magnitudes(target, window), bands)).abs().mean((1, 2))


def relative_loss(decoded: Tensor, target: Tensor) -> Tensor:
    """Return the mean absolute difference of two tensors of three axes, divided by the mean absolute `target`: [B].

    The first axis is that of the clips. The divisor is at least 0.001.
    """
    return (decoded - target).abs().mean((1, 2)) / target.abs().mean((1, 2)).clamp(min=FAINT)


def magnitudes(audio: Tensor, size: int) -> Tensor:
    """Return STFT magnitudes, float32 [B, size / 2 + 1, F], of audio [B, 1, N], F = 1 + N // (size / 4).

    The Hann window has `size` samples, centred on the frames; the hop is size / 4.
    """
    window = torch.hann_window(size, device=audio.device)
    spectrum = torch.stft(audio[:, 0].float(), size, size // 4, window=window, return_complex=True)
    return (spectrum.real.square() + spectrum.imag.square() + 1e-14).sqrt()  # finite gradient at silence


def log_mel(spectrum: Tensor, bands: int) -> Tensor:
    """Return ln(x + 1e-5) of the values x in M = `bands` mel bands of STFT magnitudes [B, K, F]: [B, M, F]."""
    return ((mel_weights(2 * (spectrum.shape[1] - 1), bands).to(spectrum) @ spectrum) + QUIET).log()


@lru_cache(maxsize=8)
def mel_weights(size: int, bands: int) -> Tensor:
    """Return triangular filters on HTK's mel scale from 0 Hz to half the sample rate, float32 [M, size / 2 + 1].

    M = `bands`; `size` is the length of the window in samples. The result is cached and must not be changed.
    """
    return LogMel(SAMPLE_RATE, size, size // 4, size, bands, 0.0, SAMPLE_RATE / 2, QUIET).weights.T.contiguous()

"""Fundamental frequency of monophonic clips by YIN (de Cheveigne and Kawahara, JASA 2002), batched.

B clips, N samples at 24 kHz, F frames, one every `HOP` samples with frame i centred on sample i * HOP.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from data_specs.rates import SAMPLE_RATE

HOP = 240  # 10 ms
LOWEST_HZ, HIGHEST_HZ = 105.0, 660.0  # pitches 48..72 with a margin of three semitones and more
WINDOW = 1024  # samples of the difference function: more than five periods of the lowest pitch
DIP = 0.15  # absolute threshold of the difference function (step 4 of YIN)
VOICED = 0.35  # a frame whose minimum is below this is voiced
SILENT = 1e-4  # root mean square (-80 dBFS) below which a frame is unvoiced
CHUNK = 8  # clips at once: bounds memory


@dataclass(frozen=True)
class PitchTrack:
    """Pitch of each clip and frame."""

    midi: Tensor  # [B, F], fractional MIDI note number
    voiced: Tensor  # bool [B, F]
    level: Tensor  # [B, F], root mean square over the window


def track(audio: Tensor) -> PitchTrack:
    """Return the pitch of float32 [B, 1, N] at 24 kHz; F = N // 240."""
    parts = [_track(part) for part in audio.split(CHUNK)]
    return PitchTrack(*(torch.cat([getattr(part, name) for part in parts]) for name in ("midi", "voiced", "level")))


def _track(audio: Tensor) -> PitchTrack:
    shortest, longest = int(SAMPLE_RATE / HIGHEST_HZ), int(SAMPLE_RATE / LOWEST_HZ) + 2
    span = WINDOW + longest
    frames = audio.shape[-1] // HOP
    padded = torch.nn.functional.pad(audio[:, 0], (span // 2, span - span // 2))
    x = padded.unfold(-1, span, HOP)[:, :frames]
    normalized = _normalized_difference(x, longest)
    lag = _first_dip(normalized, shortest)
    depth = normalized.gather(-1, lag[..., None])[..., 0]
    period = lag + _vertex(normalized, lag)
    level = x.square().mean(-1).sqrt()
    midi = 69 + 12 * torch.log2(SAMPLE_RATE / (period * 440))
    return PitchTrack(midi, (depth < VOICED) & (level > SILENT), level)


def _normalized_difference(x: Tensor, longest: int) -> Tensor:
    """Cumulative mean normalized difference (eq. 8), [B, F, longest + 1] for lags 0..longest."""
    size = 1 << (x.shape[-1] - 1).bit_length()
    spectrum = torch.fft.rfft(x, n=size)
    correlation = torch.fft.irfft(spectrum * torch.fft.rfft(x[..., :WINDOW], n=size).conj(), n=size)
    energy = torch.nn.functional.pad(x.double().square().cumsum(-1), (1, 0))
    energies = (energy[..., WINDOW : WINDOW + longest + 1] - energy[..., : longest + 1]).to(x.dtype)
    difference = (energies[..., :1] + energies - 2 * correlation[..., : longest + 1]).clamp(min=0)
    lags = torch.arange(1, longest + 1, device=x.device)
    mean = difference[..., 1:].cumsum(-1) / lags
    normalized = torch.ones_like(difference)
    normalized[..., 1:] = torch.where(mean > 0, difference[..., 1:] / mean.clamp(min=1e-20), 1.0)
    return normalized


def _first_dip(normalized: Tensor, shortest: int) -> Tensor:
    """Lag of the first local minimum below `DIP`, else of the global minimum; int64 [B, F]."""
    inner = normalized[..., 1:-1]
    dip = (inner < DIP) & (inner <= normalized[..., :-2]) & (inner < normalized[..., 2:])
    dip[..., : shortest - 1] = False
    deepest = normalized[..., shortest:-1].argmin(-1) + shortest
    first = dip.int().argmax(-1) + 1
    return torch.where(dip.any(-1), first, deepest)


def _vertex(normalized: Tensor, lag: Tensor) -> Tensor:
    """Offset of the parabola's vertex through a minimum and its neighbours (step 5), in -0.5..0.5 lags."""
    left, middle, right = (normalized.gather(-1, (lag + step)[..., None])[..., 0] for step in (-1, 0, 1))
    curvature = left - 2 * middle + right
    return torch.where(curvature > 0, (left - right) / (2 * curvature.clamp(min=1e-12)), 0.0).clamp(-0.5, 0.5)

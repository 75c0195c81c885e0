"""Fundamental frequency of monophonic audio by YIN (de Cheveigne and Kawahara, JASA 2002), batched.

B clips, N samples at 24 kHz, F frames; frame i is centred on sample i * hop.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from data_specs.rates import SAMPLE_RATE

HOP = 240  # samples: 10 ms
WINDOW = 1024  # samples of the difference function: two periods of the lowest pitch and more
DIP = 0.15  # absolute threshold of the difference function (step 4 of YIN)
VOICED = 0.35  # a frame whose minimum is below this is voiced
SILENT = 1e-4  # root mean square (-80 dBFS) below which a frame is unvoiced
REFINED_LAG = 300  # samples: short periods are measured over several of them, up to this lag
CHUNK = 8  # clips at once: bounds memory


@dataclass(frozen=True)
class PitchRange:
    """Range of fundamental frequencies that are searched, in Hz."""

    lowest_hz: float
    highest_hz: float


MELODIES = PitchRange(105.0, 660.0)  # MIDI pitches 48 to 72 with a margin of three semitones and more
RECORDINGS = PitchRange(55.0, 2100.0)  # low voices to the highest pitch of most instruments


@dataclass(frozen=True)
class PitchTrack:
    """Pitch of each clip and frame."""

    midi: Tensor  # [B, F], fractional MIDI note number, undefined where unvoiced
    voiced: Tensor  # bool [B, F]
    level: Tensor  # [B, F], root mean square over the window
    confidence: Tensor  # [B, F], periodic share of the energy: 1 minus the normalized difference, in 0..1


def track(audio: Tensor, hop: int = HOP, frames: int | None = None, searched: PitchRange = MELODIES) -> PitchTrack:
    """Return the pitch of float32 [B, 1, N] at 24 kHz; the number of frames F is N // hop unless `frames` is given.

    Frames beyond the audio see silence.
    """
    frames = audio.shape[-1] // hop if frames is None else frames
    parts = [_track(part, hop, frames, searched) for part in audio.split(CHUNK)]
    names = ("midi", "voiced", "level", "confidence")
    return PitchTrack(*(torch.cat([getattr(part, name) for part in parts]) for name in names))


def _track(audio: Tensor, hop: int, frames: int, searched: PitchRange) -> PitchTrack:
    shortest, longest = int(SAMPLE_RATE / searched.highest_hz), int(SAMPLE_RATE / searched.lowest_hz) + 2
    span = WINDOW + longest
    padded = torch.nn.functional.pad(audio[:, 0], (span // 2, span - span // 2 + hop))
    x = padded.unfold(-1, span, hop)[:, :frames]
    total = torch.nn.functional.pad(padded.double().square().cumsum(-1), (1, 0))
    energies = (total[:, WINDOW:] - total[:, :-WINDOW]).to(audio.dtype).unfold(-1, longest + 1, hop)[:, :frames]
    normalized = _normalized_difference(x, energies)
    lag = _first_dip(normalized, shortest)
    depth = normalized.gather(-1, lag[..., None])[..., 0]
    level = ((total[:, span:] - total[:, :-span])[:, ::hop][:, :frames] / span).clamp(min=0).sqrt().to(audio.dtype)
    midi = 69 + 12 * torch.log2(SAMPLE_RATE / (_period(normalized, lag) * 440))
    return PitchTrack(midi, (depth < VOICED) & (level > SILENT), level, (1 - depth).clamp(0, 1))


def _normalized_difference(x: Tensor, energies: Tensor) -> Tensor:
    """Return the cumulative mean normalized difference (eq. 8) by lag in samples, [B, F, L], of frames `x` [B, F, S].

    `energies` [B, F, L] are those of WINDOW samples of each frame from each lag on. Lag 0 has the value 1.
    """
    size = 1 << (x.shape[-1] - 1).bit_length()
    spectrum = torch.fft.rfft(x, n=size)
    correlation = torch.fft.irfft(spectrum * torch.fft.rfft(x[..., :WINDOW], n=size).conj(), n=size)
    count = energies.shape[-1]
    difference = (energies[..., :1] + energies - 2 * correlation[..., :count]).clamp(min=0)
    total = difference[..., 1:].cumsum(-1)
    scaled = difference[..., 1:] * torch.arange(1, count, device=x.device) / total.clamp(min=1e-20)
    return torch.nn.functional.pad(torch.where(total > 0, scaled, 1.0), (1, 0), value=1.0)


def _first_dip(normalized: Tensor, shortest: int) -> Tensor:
    """Return the lag in samples of the first local minimum below `DIP` from lag `shortest` on, int64 [B, F].

    If no lag is below `DIP`, as in noise, the threshold is the minimum over all lags + DIP, at most VOICED: a dip at a
    multiple of the period is often deeper than the one at the period. Without a local minimum below the threshold it is
    the lag of the minimum over all lags.
    """
    inner = normalized[..., 1:-1]
    lowest, deepest = normalized[..., shortest:-1].min(-1)
    threshold = lowest[..., None].add(DIP).clamp(max=VOICED).where(lowest[..., None] >= DIP, lowest.new_tensor(DIP))
    dip = (inner < threshold) & (inner <= normalized[..., :-2]) & (inner < normalized[..., 2:])
    dip[..., : shortest - 1] = False
    first = dip.int().argmax(-1) + 1
    return torch.where(dip.any(-1), first, deepest + shortest)


def _period(normalized: Tensor, lag: Tensor) -> Tensor:
    """Return the period in samples, [B, F], from a lag in whole samples: the vertex of a parabola (step 5).

    One sample of a short period is many cents. The vertex is therefore taken at 2, 4 or 8 times the lag and divided by
    that number, the largest of them that is at most 300 samples and where the normalized difference is below `DIP`.
    """
    period = lag + _vertex(normalized, lag)
    for count in (2, 4, 8):
        predicted = (period * count).round().long()
        at = predicted.clamp(1, normalized.shape[-1] - 2)
        refined = (at + _vertex(normalized, at)) / count
        consistent = (predicted <= min(REFINED_LAG, normalized.shape[-1] - 2)) & (
            normalized.gather(-1, at[..., None])[..., 0] < DIP
        )
        period = torch.where(consistent, refined, period)
    return period


def _vertex(normalized: Tensor, lag: Tensor) -> Tensor:
    """Return the offset from `lag`, in -1..1 samples, of the vertex of a parabola through `lag` and its neighbours."""
    left, middle, right = (normalized.gather(-1, (lag + step)[..., None])[..., 0] for step in (-1, 0, 1))
    curvature = left - 2 * middle + right
    return torch.where(curvature > 0, (left - right) / (2 * curvature.clamp(min=1e-12)), 0.0).clamp(-1, 1)

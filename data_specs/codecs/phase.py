"""Phase reconstruction from magnitudes: a phase-vocoder estimate, refined by the fast Griffin-Lim algorithm.

A short-time Fourier transform with hop H and window W: a clip is padded by (W - H) / 2 on both sides, so that N samples
give exactly N / H frames, each centred on its block of H samples. F = W / 2 + 1 bins, T = N / H frames. Leading
dimensions are clips.
"""

import math

import torch
import torch.nn.functional as nnf
from torch import Tensor

SILENT = 1e-7  # added to magnitudes before the logarithm: far below 16 bits
MOMENTUM = 0.99  # the value that Perraudin et al. recommend


def stft(audio: Tensor, window: Tensor, hop: int) -> Tensor:
    """Transform audio [..., N] to complex [..., T, F], with `window` [W] and N a multiple of `hop`."""
    margin = (len(window) - hop) // 2
    return torch.fft.rfft(nnf.pad(audio, (margin, margin)).unfold(-1, len(window), hop) * window)


def istft(spectrum: Tensor, window: Tensor, hop: int, weight: Tensor | None = None) -> Tensor:
    """Return the signal [..., N] whose transform is nearest to complex [..., T, F] (Griffin and Lim 1984, eq. 6).

    `weight` is `overlapped_power` for T frames, if the caller has it; None: it is computed.
    """
    if weight is None:
        weight = overlapped_power(window, spectrum.shape[-2], hop)
    return _overlapped(torch.fft.irfft(spectrum, n=len(window)) * window, hop) / weight


def overlapped_power(window: Tensor, frames: int, hop: int) -> Tensor:
    """Return the sum of the squared windows of all `frames` T frames at each sample, [N], N = T hop."""
    return _overlapped(window.square().expand(frames, -1), hop)


def with_phase(magnitudes: Tensor, window: Tensor, hop: int, iterations: int) -> Tensor:
    """Return signals [..., N] whose STFT magnitudes are about `magnitudes` [..., T, F].

    Fast Griffin-Lim (Perraudin, Balazs and Sondergaard 2013, algorithm 2) takes `iterations` steps from the phase of
    `vocoder_phase`. Differentiable with the phase held constant. Zero magnitudes give exact silence.
    """
    weight = overlapped_power(window, magnitudes.shape[-2], hop)
    with torch.no_grad():
        wanted = magnitudes.detach()
        ahead = torch.polar(torch.ones_like(wanted), vocoder_phase(wanted, hop))
        before, inverse = None, torch.ones_like(wanted)
        for _ in range(iterations):
            consistent = stft(istft(ahead * (wanted * inverse), window, hop, weight), window, hop)
            ahead = consistent if before is None else _extrapolated(before, consistent)
            before = consistent
            # Of the absolute value; `abs` of complex numbers takes several times longer.
            inverse = torch.addcmul(ahead.real * ahead.real, ahead.imag, ahead.imag).clamp_(min=1e-24).rsqrt_()
    return istft(ahead * (magnitudes * inverse), window, hop, weight)


def _extrapolated(before: Tensor, now: Tensor) -> Tensor:
    """Return complex now + MOMENTUM * (now - before), of the spectra of this and the previous iteration."""
    return torch.view_as_complex(torch.lerp(torch.view_as_real(before), torch.view_as_real(now), 1 + MOMENTUM))


def vocoder_phase(magnitudes: Tensor, hop: int) -> Tensor:
    """Return phases in radians, 0..2 pi, for magnitudes [..., T, F]: each peak advances at its frequency.

    The identity phase locking of Laroche and Dolson 1999: a peak advances from the previous frame's phase at its bin.
    Bins around it have its phase with alternating signs, as those of a sinusoid in the middle of a symmetric window.
    """
    owner, frequency = _peaks(magnitudes)
    before = torch.cat([frequency[..., :1, :], frequency[..., :-1, :]], -2)
    mean = torch.where((frequency - before).abs() < 1, (frequency + before) / 2, frequency)
    size = 2 * (magnitudes.shape[-1] - 1)
    bins = torch.arange(magnitudes.shape[-1], device=magnitudes.device)
    turned = (2 * math.pi * hop / size) * mean + math.pi * (bins - owner)
    phases, phase = [], torch.zeros_like(turned[..., 0, :])
    for peak, turn in zip(owner.unbind(-2), turned.unbind(-2), strict=True):
        phase = (phase.gather(-1, peak) + turn).remainder(2 * math.pi)
        phases.append(phase)
    return torch.stack(phases, -2)


def _peaks(magnitudes: Tensor) -> tuple[Tensor, Tensor]:
    """Return, for each bin of [..., T, F], the bin of the nearest peak, int64, and that peak's frequency in bins.

    It is the vertex of a parabola through three log magnitudes. In a frame without peaks each bin is its own peak.
    """
    level = (magnitudes + SILENT).log()
    left, right = level.roll(1, -1), level.roll(-1, -1)
    bins = torch.arange(level.shape[-1], device=level.device).expand_as(level)
    peak = (level > left) & (level >= right) & (bins > 0) & (bins < level.shape[-1] - 1)
    far = 4 * level.shape[-1]
    below = torch.where(peak, bins, -far).cummax(-1).values
    above = torch.where(peak, bins, far).flip(-1).cummin(-1).values.flip(-1)
    owner = torch.where(bins - below <= above - bins, below, above)
    owner = torch.where((owner < 0) | (owner >= far), bins, owner)  # a frame without a peak: each bin for itself
    offset = (left - right) / 2 / (left - 2 * level + right).clamp(max=-1e-6)
    return owner, (bins + offset.clamp(-0.5, 0.5)).gather(-1, owner)


def _overlapped(frames: Tensor, hop: int) -> Tensor:
    """Overlap-add frames [..., T, W] at distances of `hop` samples and cut the margins: [..., T * hop]."""
    *clips, count, size = frames.shape
    parts = -(-size // hop)  # hops that a frame spans; slice by slice is several times faster than fold
    padded = nnf.pad(frames, (0, parts * hop - size)).unflatten(-1, (parts, hop))
    total = frames.new_zeros(*clips, count + parts - 1, hop)
    for part in range(parts):
        total[..., part : part + count, :] += padded[..., part, :]
    margin = (size - hop) // 2
    return total.flatten(-2)[..., margin : margin + count * hop]

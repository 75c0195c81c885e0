"""Frame descriptors of monophonic audio, after the Timbre Toolbox (Peeters et al., JASA 2011).

B clips, N samples at 24 kHz, T frames, K bins, H harmonics. Frame i is centred on sample i * hop, at any hop. A value
is NaN where its descriptor is undefined: in silence, or without a pitch.
"""

import math
from functools import cached_property, lru_cache

import torch
from torch import Tensor

from data_specs.analysis.pitch import RECORDINGS, PitchRange, PitchTrack, track
from data_specs.rates import SAMPLE_RATE

SHORT, LONG = 1024, 2048  # samples of the Hann windows: 43 ms for levels, 85 ms to resolve harmonics
LOUDNESS_FLOOR = -80.0  # dB
SILENT_DB = -70.0  # A-weighted level below which spectral descriptors are undefined
LOWEST_HZ = 20.0  # 0 semitones of the centroid
LOBE_BINS = 2.5  # half width of a harmonic's main lobe, with the leakage next to it
LOBE_SHARE = 0.01  # of its frequency: vibrato and errors of the pitch widen high harmonics
BAND_BINS = 64  # width of the bands in which noise between harmonics is extrapolated to all bins
HARMONICS = 20
ENVELOPE, ENVELOPE_HOP = 256, 64  # samples: 11 ms of level every 2.7 ms, for attacks
ATTACK = (0.2, 0.9)  # of the largest amplitude: start and end of an attack
VIBRATO_S = 0.3  # window of the vibrato: one period of the slowest, 4 Hz, and some


class AudioAnalysis:
    """Descriptors of audio, each computed when it is first read; float32 [B, T] unless stated otherwise.

    Args:
        audio: float32 [B, N] or [N] (B = 1) at 24 kHz, in -1..1.
        hop: samples between frames.
        frames: number of frames T; N // hop for None. Audio is padded with silence where frames exceed it.
        searched: range of the pitch in Hz.
    """

    def __init__(self, audio: Tensor, hop: int, frames: int | None = None, searched: PitchRange = RECORDINGS) -> None:
        self.audio = torch.atleast_2d(audio).float()
        self.hop, self.searched = hop, searched
        self.frames = self.audio.shape[-1] // hop if frames is None else frames

    @cached_property
    def loudness(self) -> Tensor:
        """A-weighted root mean square in dB re full scale, at least -80: a full-scale sine at 1 kHz has -3 dB.

        10 log10 of the mean power over 43 ms, each bin weighted by IEC 61672-1:2013, annex E. Defined everywhere.
        """
        power = self._short * _a_weights(SHORT)
        return (10 * torch.log10(power.sum(-1).clamp(min=1e-12))).clamp(min=LOUDNESS_FLOOR)

    @cached_property
    def silent(self) -> Tensor:
        """Whether a frame's A-weighted level is below -70 dB, bool [B, T]."""
        return self.loudness < SILENT_DB

    @cached_property
    def pitch_track(self) -> PitchTrack:
        """Pitch by YIN as a `PitchTrack`, [B, T]; quiet frames below -70 dB may be voiced."""
        return track(self.audio[:, None], self.hop, self.frames, self.searched)

    @cached_property
    def pitch(self) -> Tensor:
        """MIDI note number with fractions, 69 = 440 Hz (YIN); NaN where unvoiced or silent."""
        found = self.pitch_track
        return found.midi.masked_fill(~found.voiced | self.silent, math.nan)

    @cached_property
    def centroid(self) -> Tensor:
        """Spectral centroid over 43 ms in semitones above 20 Hz, at least 0; NaN in silence.

        12 log2(c / 20) with c = sum f |X| / sum |X| in Hz (Peeters et al. 2011, eq. 12, on magnitudes).
        """
        return self._defined(12 * torch.log2(self._moments[0].clamp(min=LOWEST_HZ) / LOWEST_HZ))

    @cached_property
    def spread(self) -> Tensor:
        """Standard deviation in Hz of frequency, weighted by magnitude (ibid., eq. 13); NaN in silence."""
        return self._defined(self._moments[1])

    @cached_property
    def noisiness(self) -> Tensor:
        """Share of the energy off the harmonics, 0..1: (E - E_harmonic) / E (ibid., section II.B.4); NaN in silence.

        Noise at harmonics is extrapolated from the bins between them, in bands of 750 Hz. An unvoiced frame has 1.
        """
        hertz = self._hertz[..., None]
        bins = torch.arange(LONG // 2 + 1) * (SAMPLE_RATE / LONG)
        distance = (bins - (bins / hertz).round().clamp(min=1) * hertz).abs()
        width = torch.maximum(torch.tensor(LOBE_BINS * SAMPLE_RATE / LONG), LOBE_SHARE * bins)
        between = distance > torch.minimum(width, hertz * 0.45)
        power = self._long
        counts, noise, total = (_banded(x) for x in (between.float(), power * between, power))
        filled = torch.where(counts > 0, noise * (BAND_BINS / counts.clamp(min=1)), 0.0)
        share = torch.minimum(filled, total).sum(-1) / total.sum(-1).clamp(min=1e-20)
        return self._defined(torch.where(self.pitch.isnan(), 1.0, share))

    @cached_property
    def odd_even_ratio(self) -> Tensor:
        """Energy of odd over even harmonics, 1 to 20, in dB (ibid., eq. 30); NaN without a pitch."""
        power = self._harmonics.square()
        odd, even = power[..., ::2].sum(-1), power[..., 1::2].sum(-1)
        return self._pitched(10 * torch.log10(odd.clamp(min=1e-12) / even.clamp(min=1e-12)))

    @cached_property
    def tristimulus(self) -> Tensor:
        """Shares of harmonics 1, 2 to 4, and 5 to 20 in the sum of amplitudes, [3, B, T]; NaN without a pitch.

        Ibid., eq. 31 to 33.
        """
        a = self._harmonics
        parts = torch.stack([a[..., 0], a[..., 1:4].sum(-1), a[..., 4:].sum(-1)])
        return self._pitched(parts / a.sum(-1).clamp(min=1e-12))

    @cached_property
    def vibrato_depth(self) -> Tensor:
        """Peak amplitude, in cents, of the pitch's modulation within 0.3 s around a frame, without a linear glide.

        Root of twice the variance of the pitch around its line of least squares. NaN where the window holds an unvoiced
        frame or a step of a semitone or more between frames, or is beyond the clip. The window of the pitch tracker
        lowers it by 15 % at 6 Hz.
        """
        half = max(1, round(VIBRATO_S * SAMPLE_RATE / self.hop / 2))
        padded = torch.nn.functional.pad(self.pitch, (half, half), value=math.nan)
        window = padded.unfold(-1, 2 * half + 1, 1)
        time = torch.arange(-half, half + 1).float()
        centred = window - window.mean(-1, keepdim=True)
        slope = (centred * time).sum(-1, keepdim=True) / time.square().sum()
        depth = 100 * (2 * (centred - slope * time).square().mean(-1)).sqrt()
        steps = window.diff(dim=-1).abs().amax(-1)
        return depth.masked_fill(~(steps < 1), math.nan)

    @cached_property
    def log_attack_time(self) -> Tensor:
        """log10 of the attack time in s of the sound around a frame, one value for each sound; NaN in silence.

        A sound is a run of frames that are not silent. Its attack lasts from the first time at which the root mean
        square over 11 ms reaches 20 % of its maximum to the first at 90 % (ibid., with fixed thresholds). Values are at
        least log10(0.0027), the step in s at which the root mean square is measured.
        """
        found = torch.full_like(self.loudness, math.nan)
        for clip, sounding in enumerate(~self.silent):
            edges = torch.nn.functional.pad(sounding.int(), (1, 1)).diff()
            spans = torch.cat([(edges == 1).nonzero(), (edges == -1).nonzero()], 1)
            for start, stop in spans.tolist():
                found[clip, start:stop] = _log_attack_time(self.audio[clip], start * self.hop, stop * self.hop)
        return found

    @cached_property
    def _short(self) -> Tensor:
        return _power(self.audio, self.hop, self.frames, SHORT)

    @cached_property
    def _long(self) -> Tensor:
        return _power(self.audio, self.hop, self.frames, LONG)

    @cached_property
    def _moments(self) -> tuple[Tensor, Tensor]:
        """Return centroid and spread in Hz, [B, T] each, in silence too."""
        magnitude = self._short.sqrt()
        weights = magnitude / magnitude.sum(-1, keepdim=True).clamp(min=1e-20)
        hertz = torch.arange(SHORT // 2 + 1) * (SAMPLE_RATE / SHORT)
        first = weights @ hertz
        return first, (weights @ hertz.square() - first.square()).clamp(min=0).sqrt()

    @cached_property
    def _hertz(self) -> Tensor:
        """Return the fundamental frequency in Hz, [B, T]; 440 without a pitch."""
        return 440 * 2 ** ((self.pitch.nan_to_num(69.0) - 69) / 12)

    @cached_property
    def _harmonics(self) -> Tensor:
        """Return the amplitudes of harmonics [B, T, H], the largest of the three bins around each; 0 above 12 kHz."""
        at = self._hertz[..., None] * torch.arange(1, HARMONICS + 1) * (LONG / SAMPLE_RATE)
        index = at.round().long()[..., None] + torch.tensor([-1, 0, 1])
        largest = self._long.shape[-1] - 1
        found = self._long[..., None, :].expand(*index.shape[:-1], -1).gather(-1, index.clamp(max=largest)).amax(-1)
        return torch.where(at < largest, found, 0.0).sqrt()

    def _defined(self, values: Tensor) -> Tensor:
        return values.masked_fill(self.silent, math.nan)

    def _pitched(self, values: Tensor) -> Tensor:
        return values.masked_fill(self.pitch.isnan(), math.nan)


def _log_attack_time(audio: Tensor, start: int, stop: int) -> float:
    """Return log10 of the attack time in s of a sound from sample `start` to `stop` of a clip [N]."""
    padded = torch.nn.functional.pad(audio, (ENVELOPE, ENVELOPE))[start : stop + 2 * ENVELOPE]
    level = padded.unfold(-1, ENVELOPE, ENVELOPE_HOP).square().mean(-1)
    begin, end = (int((level >= share**2 * level.max()).int().argmax()) for share in ATTACK)
    return math.log10(max(end - begin, 1) * ENVELOPE_HOP / SAMPLE_RATE)


def _power(audio: Tensor, hop: int, frames: int, size: int) -> Tensor:
    """Return one-sided power spectra [B, T, K] of Hann windows of `size` samples, K = size / 2 + 1.

    Summed over K, a spectrum is about the mean square of its frame; a constant offset counts twice.
    """
    window = torch.hann_window(size)
    needed = (frames - 1) * hop + size
    # promise: descriptor-centred
    padded = torch.nn.functional.pad(audio, (size // 2, max(0, needed - audio.shape[-1] - size // 2)))
    spectrum = torch.fft.rfft(padded.unfold(-1, size, hop)[:, :frames] * window)
    return (spectrum.real.square() + spectrum.imag.square()) * (2 / (size * window.square().sum()))


def _banded(values: Tensor) -> Tensor:
    """Return sums of [..., K] over bands of 64 bins, [..., K // 64]; the last bin, at 12 kHz, is left out."""
    return values[..., :-1].unflatten(-1, (-1, BAND_BINS)).sum(-1)


@lru_cache(maxsize=2)
def _a_weights(size: int) -> Tensor:
    """Return the power gains [K] of A-weighting (IEC 61672-1:2013, annex E, eq. E.1), 1 at 1 kHz; K = size / 2 + 1."""
    square = (torch.arange(size // 2 + 1, dtype=torch.float64) * (SAMPLE_RATE / size)).square()

    def response(f2: Tensor) -> Tensor:
        a, b, c, d = (x * x for x in (20.598997, 107.65265, 737.86223, 12194.217))
        return d * f2.square() / ((f2 + a) * ((f2 + b) * (f2 + c)).sqrt() * (f2 + d))

    return (response(square) / response(torch.tensor(1e6, dtype=torch.float64))).square().float()

"""Range and tuning of SoundFont presets, measured note by note, once per build.

A note is playable if it sounds above -60 dBFS within 100 ms and its pitch is within 50 cents. A velocity v lowers the
threshold by 40 log10(v / 127) dB, as it lowers the note.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from data_specs.errors import UserError
from data_specs.spec import SYNTH_BLOCK, Instrument
from pipeline.render.renderer import SILENCE_PEAK, Renderer

MAX_DETUNE_CENTS = 50
SOUND_BLOCKS = 38  # 101 ms at 24 kHz
LAW_VELOCITIES = (10, 20, 30, 40, 50, 64, 80, 96, 112, 127)
LAW_BLOCKS = 120  # 320 ms
PITCH_VELOCITY = 100
_ATTACK_BLOCKS, _PITCH_BLOCKS = 24, 240  # 64 ms, then 640 ms
_SEARCH_CENTS = 500
_MAX_APERIODICITY = 0.3  # of a harmonic sound; noise is near 1
_MIN_PROMINENCE_DB = 30  # of a spectral peak; noise reaches 23
_AGREEMENT_CENTS = 20
_LEAST_PERIOD = 60  # samples; sounds of shorter periods are interpolated

Probe = Callable[[int, int, int], NDArray[np.float32]]


class PresetCheck(NamedTuple):
    """One instrument in one SoundFont.

    Attributes:
        sounding: bool [128, 128] by pitch and velocity; False outside the pitches checked, and at velocity 0.
        detune_cents: float64 [128], deviation of each pitch from equal temperament at 440 Hz; NaN where the sound has
            no pitch within 500 cents or was not checked.
        law_db: largest deviation of the level from 40 log10(v / 127) dB, over `LAW_VELOCITIES`.
    """

    sounding: NDArray[np.bool_]
    detune_cents: NDArray[np.float64]
    law_db: float

    @property
    def playable(self) -> NDArray[np.bool_]:
        """Whether notes sound and are not out of tune, bool [128, 128] by pitch and velocity."""
        return self.sounding & ~(np.abs(self.detune_cents) > MAX_DETUNE_CENTS)[:, None]


def check_preset(renderer: Renderer, instrument: Instrument, lowest: int, highest: int, rate: int) -> PresetCheck:
    """Play every pitch `lowest`..`highest` at every velocity 1..127 and measure level and pitch."""
    sounding = np.zeros((128, 128), np.bool_)
    detune = np.full(128, np.nan)
    thresholds = SILENCE_PEAK * (np.arange(128) / 127) ** 2
    with renderer.probe(instrument) as probe:
        for pitch in range(lowest, highest + 1):
            for velocity in range(1, 128):
                peak = np.abs(probe(pitch, velocity, SOUND_BLOCKS)).max()
                sounding[pitch, velocity] = peak > thresholds[velocity]
            loud = probe(pitch, PITCH_VELOCITY, _ATTACK_BLOCKS + _PITCH_BLOCKS)[_ATTACK_BLOCKS * SYNTH_BLOCK :]
            detune[pitch] = deviation_cents(loud, pitch, rate)
        law = max(_law_deviation(probe, pitch, sounding) for pitch in (lowest, (lowest + highest) // 2, highest))
    return PresetCheck(sounding, detune, law)


def refuse_unusable(check: PresetCheck, instrument: Instrument, soundfont: str) -> None:
    """Refuse a preset that is silent, unpitched or detuned at most of its pitches.

    Raises:
        UserError: names the preset and the deviation.
    """
    where = f"{instrument.name} (program {instrument.program}, bank {instrument.bank}) of {soundfont}"
    advice = "choose another program or SoundFont"
    heard = check.detune_cents[check.sounding[:, PITCH_VELOCITY]]
    if not len(heard):
        raise UserError(f"{where} must sound within the pitch range of the clips, but is silent; {advice}")
    pitched = heard[np.isfinite(heard)]
    if len(pitched) <= len(heard) / 2:
        raise UserError(f"{where} must be pitched, but no period or partial is near most of its pitches; {advice}")
    if abs(median := float(np.median(pitched))) > MAX_DETUNE_CENTS:
        raise UserError(f"{where} must be tuned within {MAX_DETUNE_CENTS} cents, got {median:+.0f} cents; {advice}")


def unplayable_notes(check: PresetCheck, notes: NDArray[np.integer]) -> NDArray[np.bool_]:
    """Return which notes [n, 4] (onset, offset, pitch, velocity) the preset cannot play, bool [n]."""
    return ~check.playable[notes[:, 2], notes[:, 3]]


def deviation_cents(sound: NDArray[np.floating], pitch: int, rate: int) -> float:
    """Return the cents between a sound [N] and a MIDI pitch, NaN if no pitch is found within 500 cents.

    The period serves harmonic sounds, also without a fundamental; the nearest partial serves bells and bars. One of
    them suffices for a sound in tune; a deviation is one on which both agree.
    """
    hz = 440 * 2 ** ((pitch - 69) / 12)
    period, partial = _period_cents(sound, hz, rate), _partial_cents(sound, hz, rate)
    nearest = period if abs(period) <= abs(partial) or math.isnan(partial) else partial
    agreed = abs(period - partial) <= _AGREEMENT_CENTS
    return nearest if abs(nearest) <= MAX_DETUNE_CENTS or agreed else math.nan


def _period_cents(sound: NDArray[np.floating], hz: float, rate: int) -> float:
    """Cumulative mean normalized difference (de Cheveigne and Kawahara 2002, equation 8), parabolic interpolation."""
    factor = math.ceil(_LEAST_PERIOD * hz / rate)
    signal = np.fft.irfft(np.fft.rfft(sound[: len(sound) // 2].astype(np.float64)), factor * (len(sound) // 2))
    expected = factor * rate / hz
    low, high = (round(expected * 2 ** (cents / 1200)) for cents in (-_SEARCH_CENTS, _SEARCH_CENTS))
    lags = np.arange(1, high + 2)
    window = len(signal) - len(lags)
    difference = np.array([np.sum((signal[:window] - signal[lag : lag + window]) ** 2) for lag in lags])
    normalized = difference * lags / np.maximum(np.cumsum(difference), 1e-30)
    best = low - 1 + int(np.argmin(normalized[low - 1 : high]))
    if normalized[best] > _MAX_APERIODICITY:
        return math.nan
    return 1200 * math.log2(expected / (lags[best] + _vertex(-normalized[best - 1 : best + 2])))


def _partial_cents(sound: NDArray[np.floating], hz: float, rate: int) -> float:
    """Strongest spectral peak within 500 cents, if it rises above the median there."""
    size = 8 * len(sound)
    spectrum = 20 * np.log10(np.abs(np.fft.rfft(sound * np.hanning(len(sound)), size)) + 1e-12)
    low, high = (round(hz * 2 ** (cents / 1200) * size / rate) for cents in (-_SEARCH_CENTS, _SEARCH_CENTS))
    best = low + int(np.argmax(spectrum[low : high + 1]))
    if spectrum[best] - np.median(spectrum[low : high + 1]) < _MIN_PROMINENCE_DB:
        return math.nan
    return 1200 * math.log2((best + _vertex(spectrum[best - 1 : best + 2])) * rate / size / hz)


def _vertex(values: NDArray[np.float64]) -> float:
    """Offset of a maximum from the middle one of three values, by a parabola."""
    before, here, after = values
    curvature = before - 2 * here + after
    return float(0.5 * (before - after) / curvature) if curvature < 0 else 0.0


def _law_deviation(probe: Probe, pitch: int, sounding: NDArray[np.bool_]) -> float:
    """Largest deviation in dB from 40 log10(v / 127) at one pitch, among velocities that sound."""
    heard = [v for v in LAW_VELOCITIES if sounding[pitch, v]]
    levels = [_power_db(probe(pitch, v, LAW_BLOCKS)) - 40 * math.log10(v / 127) for v in heard]
    return round(max(levels) - min(levels), 2) if levels else 0.0


def _power_db(sound: NDArray[np.floating]) -> float:
    return 10 * math.log10(float(np.mean(np.square(sound, dtype=np.float64))) + 1e-30)

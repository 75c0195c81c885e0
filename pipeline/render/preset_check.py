"""Range and tuning of SoundFont presets, measured note by note.

A note of velocity v sounds if its peak within 101 ms is above -60 dBFS + 40 log10(v / 127) dB. The threshold falls with
the velocity because the note does. A note is playable if it sounds and its pitch is not more than 50 cents off; where
no pitch can be measured it counts as in tune.
"""

import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple, Self

import numpy as np

from data_specs.arrays import AnyFloat, Bool, Float32, Float64
from data_specs.errors import UserError
from data_specs.spec import SYNTH_BLOCK, Instrument
from pipeline.render.renderer import SILENCE_PEAK, Renderer, rms_dbfs

CHECK_VERSION = 1  # raise it when the measurement changes
MAX_DETUNE_CENTS = 50
SOUND_BLOCKS = 38  # 101 ms at 24 kHz
LAW_VELOCITIES = (10, 20, 30, 40, 50, 64, 80, 96, 112, 127)
LAW_BLOCKS = 120  # 320 ms
VELOCITY_BANDS = 4  # of 32 velocities each; the pitch is measured in each band, since layers may be tuned differently
_ATTACK_BLOCKS, _PITCH_BLOCKS = 24, 240  # 64 ms that are left out of the pitch measurement, then 640 ms
_NEAR_CENTS, _FAR_CENTS = 500, 1900
_NEAR_APERIODICITY, _FAR_APERIODICITY = 0.3, 0.15  # largest aperiodicity of a harmonic sound; that of noise is near 1
_MIN_PROMINENCE_DB = 30  # least prominence of the peak of a partial; in noise a peak reaches 23
_AGREEMENT_CENTS = 20
# Shares of the power of partials, measured on 112 General MIDI presets. Odd multiples of f/2 hold 0 to 0.12 of it in a
# sound in tune (except organs with 16' stops and timpani) and 0.2 to 0.98 in one an octave too low. Odd multiples of f
# hold at least 0.05 in a sound in tune.
_OCTAVE_BELOW, _OCTAVE_ABOVE, _LEAST_SHARE = 0.2, 0.02, 0.1
_BAND = 2 ** (50 / 1200)  # half width of a partial
_LEAST_PERIOD = 60  # samples; a sound with a shorter period is interpolated first

Probe = Callable[[int, int, int], Float32]


class PresetCheck(NamedTuple):
    """Range and tuning of one instrument in one SoundFont.

    Attributes:
        sounding: whether a note sounds, bool [128, 128] by pitch and velocity; False for pitches that were not checked
            and for velocity 0.
        detune_cents: deviation from equal temperament at 440 Hz, positive if sharp, float64 [128, 4] by pitch and band
            of 32 velocities; NaN where no pitch was found within 1900 cents or none was checked.
        law_db: largest minus smallest deviation of the level from 40 log10(v / 127) dB among the sounding
            `LAW_VELOCITIES` of one pitch: the largest of three pitches.
    """

    sounding: Bool
    detune_cents: Float64
    law_db: float

    @property
    def playable(self) -> Bool:
        """Whether a note sounds and is not known to be over 50 cents off, bool [128, 128] by pitch and velocity."""
        detuned = np.abs(self.detune_cents) > MAX_DETUNE_CENTS
        return self.sounding & ~np.repeat(detuned, 128 // VELOCITY_BANDS, axis=1)

    def to_json(self) -> dict[str, Any]:
        """Return the check as JSON values.

        `sounding` becomes packed bits as hexadecimal text; NaN in `detune_cents` becomes null.
        """
        detune = [[None if math.isnan(cents) else cents for cents in bands] for bands in self.detune_cents.tolist()]
        return {
            "sounding": np.packbits(self.sounding).tobytes().hex(),
            "detune_cents": detune,
            "law_db": self.law_db,
        }

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Self:
        """Return the check that `to_json` turned into `value`.

        Raises:
            ValueError: `detune_cents` has another shape.
        """
        bits = np.frombuffer(bytes.fromhex(value["sounding"]), np.uint8)
        sounding = np.unpackbits(bits).reshape(128, 128).astype(np.bool_)
        detune = np.array(value["detune_cents"], np.float64)  # None becomes NaN
        if detune.shape != (128, VELOCITY_BANDS):
            raise ValueError(f"detune_cents must have shape (128, {VELOCITY_BANDS}), got {detune.shape}")
        return cls(sounding, detune, float(value["law_db"]))


def check_preset(renderer: Renderer, instrument: Instrument, lowest: int, highest: int, rate: int) -> PresetCheck:
    """Play every pitch `lowest`..`highest` at every velocity 1..127 and return what was measured of level and pitch.

    The pitch is measured at one velocity of each band. `law_db` is that of the lowest, middle and highest pitch.

    Args:
        rate: sample rate of the renderer in Hz.
    """
    sounding = np.zeros((128, 128), np.bool_)
    detune = np.full((128, VELOCITY_BANDS), np.nan)
    thresholds = SILENCE_PEAK * (np.arange(128) / 127) ** 2
    with renderer.probe(instrument) as probe:
        for pitch in range(lowest, highest + 1):
            for velocity in range(1, 128):
                peak = np.abs(probe(pitch, velocity, SOUND_BLOCKS)).max()
                sounding[pitch, velocity] = peak > thresholds[velocity]
            for band, velocity in _band_velocities(sounding[pitch]):
                sound = probe(pitch, velocity, _ATTACK_BLOCKS + _PITCH_BLOCKS)[_ATTACK_BLOCKS * SYNTH_BLOCK :]
                detune[pitch, band] = deviation_cents(sound, pitch, rate)
        law = max(_law_deviation(probe, pitch, sounding) for pitch in (lowest, (lowest + highest) // 2, highest))
    return PresetCheck(sounding, detune, law)


def _band_velocities(sounding: Bool) -> Iterator[tuple[int, int]]:
    """Yield (band, velocity) for each band in which a pitch sounds, with the middle one of its sounding velocities.

    Args:
        sounding: whether the pitch sounds at each velocity, bool [128].
    """
    width = 128 // VELOCITY_BANDS
    for band in range(VELOCITY_BANDS):
        if len(heard := band * width + np.flatnonzero(sounding[band * width : (band + 1) * width])):
            yield band, int(heard[len(heard) // 2])


def refuse_unusable(check: PresetCheck, instrument: Instrument, soundfont: str) -> None:
    """Return None if a preset is usable, else raise UserError.

    The median is taken of `detune_cents` over all pitches and bands of velocities that sound.

    Args:
        soundfont: name of the SoundFont, for messages.

    Raises:
        UserError: the preset is silent; not more than half of its sounding pitches and bands have a pitch within 50
            cents of the median; or the median is more than 50 cents off.
    """
    where = f"{instrument.name} (program {instrument.program}, bank {instrument.bank}) of {soundfont}"
    advice = "choose another program or SoundFont"
    heard = check.detune_cents[check.sounding.reshape(128, VELOCITY_BANDS, -1).any(axis=2)]
    if not len(heard):
        raise UserError(f"{where} must sound within the pitch range of the clips, but is silent; {advice}")
    median = float(np.nanmedian(heard)) if np.isfinite(heard).any() else math.nan
    common = np.abs(heard - median) <= MAX_DETUNE_CENTS  # False for NaN
    if common.sum() <= len(heard) / 2:
        raise UserError(f"{where} must be pitched, but its sound does not follow most of the pitches asked; {advice}")
    if abs(median) > MAX_DETUNE_CENTS:
        raise UserError(f"{where} must be tuned within {MAX_DETUNE_CENTS} cents, got {median:+.0f} cents; {advice}")


def deviation_cents(sound: AnyFloat, pitch: int, rate: int) -> float:
    """Return the deviation of a sound [N] from a MIDI pitch in cents, positive if sharp; NaN if none can be decided.

    Within 500 cents, the deviation of the period and that of the strongest partial are measured. The period is right
    for harmonic sounds, also without a fundamental, the partial for bells and bars. If one of them is in tune (50
    cents), the sound is; a larger deviation counts only if both agree within 20 cents, else the result is NaN. Errors
    by an octave are found from the other partials. If there is neither a period nor a partial within 500 cents, the
    period is sought within 1900 cents.

    Args:
        rate: sample rate in Hz.
    """
    hz = 440 * 2 ** ((pitch - 69) / 12)
    period = _period_cents(sound, hz, rate, _NEAR_CENTS, _NEAR_APERIODICITY)
    partial = _partial_cents(sound, hz, rate)
    nearest = period if abs(period) <= abs(partial) or math.isnan(partial) else partial
    if math.isnan(nearest):
        return _period_cents(sound, hz, rate, _FAR_CENTS, _FAR_APERIODICITY)
    if octave := _octave_error(sound, hz * 2 ** (nearest / 1200), rate):
        return nearest + 1200 * octave
    agreed = abs(period - partial) <= _AGREEMENT_CENTS
    return nearest if abs(nearest) <= MAX_DETUNE_CENTS or agreed else math.nan


def _period_cents(sound: AnyFloat, hz: float, rate: int, reach: float, limit: float) -> float:
    """Return how far the pitch of a sound's period is from `hz`, in cents, positive if sharp.

    It is NaN if the aperiodicity is above `limit`. The period is the minimum, within `reach` cents to either side, of
    the cumulative mean normalized difference function (de Cheveigne and Kawahara 2002, equation 8), interpolated by a
    parabola. Only the first half of the sound is used.
    """
    factor = math.ceil(_LEAST_PERIOD * hz / rate)
    signal = np.fft.irfft(np.fft.rfft(sound[: len(sound) // 2].astype(np.float64)), factor * (len(sound) // 2))
    expected = factor * rate / hz
    low, high = (round(expected * 2 ** (cents / 1200)) for cents in (-reach, reach))
    lags = np.arange(1, high + 2)
    window = len(signal) - len(lags)
    difference = np.array([np.sum((signal[:window] - signal[lag : lag + window]) ** 2) for lag in lags])
    normalized = difference * lags / np.maximum(np.cumsum(difference), 1e-30)
    best = low - 1 + int(np.argmin(normalized[low - 1 : high]))
    if normalized[best] > limit:
        return math.nan
    return 1200 * math.log2(expected / (lags[best] + _vertex(-normalized[best - 1 : best + 2])))


def _partial_cents(sound: AnyFloat, hz: float, rate: int) -> float:
    """Return the deviation from `hz` in cents, positive if sharp, of the strongest spectral peak within 500 cents.

    It is NaN unless the peak is at least 30 dB above the median of the spectrum in that range.
    """
    size = 8 * len(sound)
    spectrum = 20 * np.log10(np.abs(np.fft.rfft(sound * np.hanning(len(sound)), size)) + 1e-12)
    low, high = (round(hz * 2 ** (cents / 1200) * size / rate) for cents in (-_NEAR_CENTS, _NEAR_CENTS))
    best = low + int(np.argmax(spectrum[low : high + 1]))
    if spectrum[best] - np.median(spectrum[low : high + 1]) < _MIN_PROMINENCE_DB:
        return math.nan
    return 1200 * math.log2((best + _vertex(spectrum[best - 1 : best + 2])) * rate / size / hz)


def _octave_error(sound: AnyFloat, hz: float, rate: int) -> int:
    """Return the octaves by which a sound is off the pitch `hz`: 1 if it is too high, -1 if it is too low, else 0.

    It is an octave too high if only even multiples of `hz` sound, too low if odd multiples of `hz` / 2 are strong.
    """
    size = 4 * len(sound)
    power = np.abs(np.fft.rfft(sound * np.hanning(len(sound)), size)) ** 2

    def share(multiples: Iterable[float]) -> float:
        edges = [(m * hz * size / rate * _BAND**-1, m * hz * size / rate * _BAND) for m in multiples]
        return float(sum(power[int(low) : math.ceil(high) + 1].sum() for low, high in edges) / (power.sum() + 1e-30))

    half, odd, even = share((0.5, 1.5, 2.5, 3.5)), share((1, 3, 5)), share((2, 4, 6))
    if half > _OCTAVE_BELOW * (half + odd + even) and half > _LEAST_SHARE:
        return -1
    # promise: detuned-preset-refused-2
    return int(half + odd < _OCTAVE_ABOVE * even and even > _LEAST_SHARE)


def _vertex(values: Float64) -> float:
    """Return the position of the maximum of the parabola through three values, relative to the middle one in steps.

    It is 0 if the parabola has no maximum.
    """
    before, here, after = values
    curvature = before - 2 * here + after
    return float(0.5 * (before - after) / curvature) if curvature < 0 else 0.0


def _law_deviation(probe: Probe, pitch: int, sounding: Bool) -> float:
    """Return the largest minus the smallest deviation from 40 log10(v / 127) dB of the level at one pitch.

    The result is in dB, rounded to 0.01. Velocities v are those of LAW_VELOCITIES that sound; it is 0 if none does.
    """
    heard = [v for v in LAW_VELOCITIES if sounding[pitch, v]]
    levels = [rms_dbfs(probe(pitch, v, LAW_BLOCKS)) - 40 * math.log10(v / 127) for v in heard]
    return round(max(levels) - min(levels), 2) if levels else 0.0

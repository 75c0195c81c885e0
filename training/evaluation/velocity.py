"""Estimation of note velocities from peak levels, by a scale that is fitted on real clips.

The level of a note depends on velocity, instrument, key and SoundFont. The scale is a ridge regression per instrument,
ln(velocity) = a + b * level + c[key] + d * (1 - brightness), on clips whose controls are known. Velocities are in 0..1
(MIDI velocity / 127), levels in dBFS.

n notes, I instruments, K = 25 keys from MIDI note 48.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from data_specs.arrays import Float32, Float64, Int64
from training.evaluation.features import FRAME_S, FrameFeatures
from training.evaluation.targets import UNSPECIFIED, ControlTargets

PEAK_S = 0.2  # seconds after the onset in which the peak of a note is searched
LOWEST_KEY, KEYS = 48, 25
RIDGE = 1.0  # penalty of the coefficients of keys, so that rare keys stay near the mean of their instrument
MIN_NOTES = 20  # smallest number of notes of an instrument to fit its scale


@dataclass(frozen=True)
class NoteLevels:
    """Peak levels and tracked keys of the n notes of a clip, with their targets."""

    level_db: Float64  # [n]
    key: Int64  # [n], tracked pitch above `LOWEST_KEY`, UNSPECIFIED where unvoiced or out of range
    velocity: Float64  # [n], the target, in 0..1
    instrument: Int64  # [n], the target, or UNSPECIFIED
    brightness: Float64  # [n], the target, 1 where unconditioned


def note_levels(features: FrameFeatures, clip: int, targets: ControlTargets) -> NoteLevels:
    """Return peak level, tracked key and targets of the notes of a clip, one for each velocity onset.

    The peak is the largest level within 0.2 s after the onset and before the next one. The key is the median of the
    tracked pitch there, rounded.

    Args:
        features: features of all clips.
        clip: number of the clip in `features`.
        targets: targets of this clip.
    """
    first = np.clip(np.round(targets.velocity_onsets / FRAME_S).astype(int), 0, features.frames - 1)
    end = np.minimum(targets.onset_end, targets.velocity_onsets + PEAK_S)
    last = np.clip(np.round(end / FRAME_S).astype(int), first + 1, features.frames)
    spans = [slice(a, b) for a, b in zip(first.tolist(), last.tolist(), strict=True)]
    level = np.array([features.level_db[clip, span].max() for span in spans])
    keys = np.array([_key(features.midi[clip, span][features.voiced[clip, span]]) for span in spans], dtype=int)
    brightness = np.nan_to_num(targets.brightness[first], nan=1.0)
    return NoteLevels(level, keys, targets.onset_velocity, targets.instrument[first], brightness)


def _key(midi: Float32) -> int:
    if not len(midi):
        return UNSPECIFIED
    key = round(float(np.median(midi))) - LOWEST_KEY
    return key if 0 <= key < KEYS else UNSPECIFIED


@dataclass(frozen=True)
class VelocityScale:
    """Regression coefficients per instrument.

    For an instrument with fewer than MIN_NOTES notes `offset` and `slope` are NaN, `keys` and `dullness` 0.
    """

    offset: Float64  # [I]
    slope: Float64  # [I]
    keys: Float64  # [I, K]
    dullness: Float64  # [I], of 1 - brightness

    @classmethod
    def fit(cls, features: FrameFeatures, targets: Sequence[ControlTargets], instruments: int) -> "VelocityScale":
        """Return the scale fitted on one or more real clips.

        Args:
            features: features of the clips.
            targets: targets of each clip.
            instruments: number of instruments I.
        """
        notes = [note_levels(features, clip, one) for clip, one in enumerate(targets)]
        level, key, velocity, instrument, brightness = (
            np.concatenate([getattr(one, name) for one in notes])
            for name in ("level_db", "key", "velocity", "instrument", "brightness")
        )
        offset, slope = np.full(instruments, np.nan), np.full(instruments, np.nan)
        keys, dullness = np.zeros((instruments, KEYS)), np.zeros(instruments)
        for number in range(instruments):
            chosen = instrument == number
            if chosen.sum() < MIN_NOTES:
                continue
            of_key = key[chosen, None] == np.arange(KEYS)
            columns = np.column_stack([np.ones(chosen.sum()), level[chosen], of_key, 1 - brightness[chosen]])
            ridge = RIDGE * np.diag([0.0, 0.0, *np.ones(KEYS), 0.1])
            solution = np.linalg.solve(columns.T @ columns + ridge, columns.T @ np.log(velocity[chosen]))
            offset[number], slope[number], keys[number], dullness[number] = *solution[:2], solution[2:-1], solution[-1]
        return cls(offset, slope, keys, dullness)

    def velocity(self, notes: NoteLevels) -> Float64:
        """Return estimated velocities [n] of notes, clipped to 0..1; NaN for an instrument without a scale.

        For an UNSPECIFIED instrument offset and slope are the means of those of all scales, and neither key nor
        brightness is used. All velocities are NaN if no instrument has a scale.
        """
        instrument, key = notes.instrument, notes.key
        if np.isnan(self.offset).all():
            return np.full(len(instrument), np.nan)
        known = instrument >= 0
        of_key = np.where(known & (key >= 0), self.keys[instrument, key], 0.0)
        offset = np.where(known, self.offset[instrument], np.nanmean(self.offset))
        slope = np.where(known, self.slope[instrument], np.nanmean(self.slope))
        of_filter = np.where(known, self.dullness[instrument], 0.0) * (1 - notes.brightness)
        return np.clip(np.exp(offset + slope * notes.level_db + of_key + of_filter), 0.0, 1.0)

"""Models of level and centroid of frames as functions of the controls, fitted on real clips.

Both are ridge regressions per instrument, each with its own coefficients a, b, ... and its own decay:

level     a + b * key + c * 20 log10(velocity) + decay(time since the onset), in dB
centroid  a + b * key + c * 20 log10(velocity) + d * brightness + decay(time since the onset), in semitones

The key is the tracked pitch in semitones above MIDI note 60; velocity is in 0..1. Measured clips are compared with
these predictions, so that the decay of a piano or the brightness of a loud note is no error. n frames of notes, F
frames of a clip, I instruments.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from data_specs.arrays import Bool, Float64, Int64
from training.evaluation.features import FrameFeatures
from training.evaluation.targets import UNSPECIFIED, ControlTargets

KNOTS_S = np.array([0.0, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2])  # of the piecewise linear decay
ATTACK_S = 0.06  # length of the attack, whose frames are left out
RIDGE = 1.0
MIN_FRAMES = 200  # smallest number of frames of an instrument to fit its models
MIN_RANGE = 0.3  # smallest range of brightness to fit the model of the centroid


@dataclass(frozen=True)
class NoteFrames:
    """The n frames of a clip that `kept_frames` selects, in order of time, with their measurements and targets."""

    level_db: Float64  # [n]
    centroid: Float64  # [n], semitones above 20 Hz
    key: Float64  # [n], tracked pitch in MIDI note numbers, the mean of the clip where unvoiced
    velocity_db: Float64  # [n], the target as 20 log10(velocity)
    brightness: Float64  # [n], the target, 1 where unconditioned
    instrument: Int64  # [n], the target
    time: Float64  # [n], seconds since the onset
    note: Int64  # [n], number of the note


def kept_frames(features: FrameFeatures, clip: int, targets: ControlTargets) -> Bool:
    """Return which frames of clip number `clip` can be compared with the models, bool [F].

    They are in a note, 25 ms or more from a change of note and 60 ms or more after its start, with known velocity above
    0, known instrument, and a measured centroid.

    Args:
        features: features of all clips.
        clip: number of the clip in `features`.
        targets: targets of this clip.
    """
    kept = targets.note & targets.stable & (targets.note_time >= ATTACK_S) & (targets.velocity > 0)
    return np.asarray(kept & (targets.instrument != UNSPECIFIED) & np.isfinite(features.centroid[clip]))


def note_frames(features: FrameFeatures, clip: int, targets: ControlTargets) -> NoteFrames:
    """Return measurements and targets of the frames of clip number `clip` that `kept_frames` selects.

    Args:
        features: features of all clips.
        clip: number of the clip in `features`.
        targets: targets of this clip.
    """
    kept = kept_frames(features, clip, targets)
    voiced, midi = features.voiced[clip][kept], features.midi[clip][kept].astype(float)
    usual = midi[voiced].mean() if voiced.any() else 60.0
    return NoteFrames(
        level_db=features.level_db[clip][kept].astype(float),
        centroid=features.centroid[clip][kept].astype(float),
        key=np.where(voiced, midi, usual),
        velocity_db=20 * np.log10(targets.velocity[kept]),
        brightness=np.nan_to_num(targets.brightness[kept], nan=1.0),
        instrument=targets.instrument[kept],
        time=targets.note_time[kept],
        note=targets.note_number[kept],
    )


@dataclass(frozen=True)
class FrameModels:
    """Coefficients of the two regressions for each instrument.

    A row is NaN if the instrument has fewer than MIN_FRAMES frames. A row of `centroid` is also NaN if the brightness
    of these frames has a range below MIN_RANGE.
    """

    level: Float64  # [I, 3 + knots]: 1, key, velocity, decay
    centroid: Float64  # [I, 4 + knots]: 1, key, velocity, brightness, decay

    @classmethod
    def fit(cls, features: FrameFeatures, targets: Sequence[ControlTargets], instruments: int) -> "FrameModels":
        """Return the models fitted on one or more real clips.

        Args:
            features: features of the clips.
            targets: targets of each clip.
            instruments: number of instruments I.
        """
        clips = [note_frames(features, clip, one) for clip, one in enumerate(targets)]
        joined = NoteFrames(*(np.concatenate([getattr(clip, name) for clip in clips]) for name in vars(clips[0])))
        level, centroid = (np.full((instruments, terms + len(KNOTS_S)), np.nan) for terms in (3, 4))
        for number in range(instruments):
            of = joined.instrument == number
            if of.sum() < MIN_FRAMES:
                continue
            level[number] = _ridge(_columns(joined)[of], joined.level_db[of])
            if np.ptp(joined.brightness[of]) >= MIN_RANGE:
                centroid[number] = _ridge(_columns(joined, joined.brightness)[of], joined.centroid[of])
        return cls(level, centroid)

    def dynamics(self, frames: NoteFrames) -> tuple[Float64, Float64]:
        """Return the target level and the measured level, in dB, each [n].

        The target level is what the model adds for the target velocity. The measured level is without what the model
        adds for key, decay and the constant. Both are NaN for an instrument without a model.
        """
        coefficients = self.level[frames.instrument]
        predicted = (_columns(frames) * coefficients).sum(-1)
        target = coefficients[:, 2] * frames.velocity_db
        return target, frames.level_db - predicted + target

    def brightness(self, frames: NoteFrames) -> Float64:
        """Return for each frame the brightness [n] at which the model gives the measured centroid, not clipped to 0..1.

        It is NaN for an instrument without a model of the centroid, or whose centroid does not depend on brightness.
        """
        coefficients = self.centroid[frames.instrument]
        slope = coefficients[:, 3]
        rest = (_columns(frames, frames.brightness) * coefficients).sum(-1) - slope * frames.brightness
        estimate = (frames.centroid - rest) / np.where(np.abs(slope) > 1e-6, slope, np.nan)
        return np.asarray(estimate, np.float64)


def _columns(frames: NoteFrames, *more: Float64) -> Float64:
    """Return the inputs of a regression, [n, 3 + len(more) + knots].

    They are 1, key in semitones above MIDI note 60, velocity in dB, each of `more` [n], and the decay. The decay is a
    triangular function of the time for each of KNOTS_S, together piecewise linear and constant after the last knot.
    """
    position = np.interp(frames.time, KNOTS_S, np.arange(len(KNOTS_S)))
    decay = np.maximum(0.0, 1.0 - np.abs(position[:, None] - np.arange(len(KNOTS_S))))
    return np.column_stack([np.ones_like(frames.key), frames.key - 60.0, frames.velocity_db, *more, decay])


def _ridge(columns: Float64, values: Float64) -> Float64:
    """Return the coefficients [k] of the ridge regression of values [n] on columns [n, k].

    The penalty makes them unique although the columns of the decay sum to that of the constant.
    """
    penalty = RIDGE * np.eye(columns.shape[1])
    return np.asarray(np.linalg.solve(columns.T @ columns + penalty, columns.T @ values), np.float64)

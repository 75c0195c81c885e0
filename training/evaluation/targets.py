"""Targets of the adherence measures: values of controls at the frames of `features.py`, and notes read from them.

T control frames, F feature frames (every 10 ms), R rows of a control (one for each instrument). A control value below
zero is unconditioned.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from data_specs.arrays import Bool, Float64, Int64
from data_specs.controls import CHROMA_STEPS
from data_specs.controls.pitch import PITCH_ORIGIN, PITCH_SPAN
from training.evaluation.features import FRAME_S

SAME = 1e-3  # largest difference of equal control values; MIDI velocities are 1/127 apart
UNSPECIFIED = -1  # index of a pitch class or an instrument where the control is unconditioned
JUMP = 0.7  # semitones between frames, above which a change of pitch starts a note
STABLE_S = 0.025  # seconds around a change of note in which pitch is not measured


@dataclass(frozen=True)
class ControlTargets:
    """Targets of one clip, with F feature frames, n onsets and m velocity onsets.

    A frame belongs to a note, to a rest, or to neither where the controls that would tell are unconditioned.
    """

    note: Bool  # [F]
    rest: Bool  # [F]
    pitch_class: Int64  # [F], or UNSPECIFIED
    stable: Bool  # [F], at least `STABLE_S` from the nearest change of note
    instrument: Int64  # [F], or UNSPECIFIED
    rests_known: Bool  # [F], velocity or pitch is conditioned, so every frame is a note or a rest
    onsets_known: Bool  # [F], velocity and chroma are conditioned
    onsets: Float64  # [n], seconds, where both are conditioned
    velocity_onsets: Float64  # [m], seconds: onsets where velocity is conditioned
    onset_velocity: Float64  # [m], velocity / 127
    onset_end: Float64  # [m], seconds: the next velocity onset, or the end of the clip
    pitch: Float64  # [F], fractional MIDI note number; NaN in rests and where unconditioned
    velocity: Float64  # [F], velocity / 127; NaN in rests and where unconditioned
    brightness: Float64  # [F], NaN where unconditioned
    note_number: Int64  # [F], counts notes from 0
    note_time: Float64  # [F], seconds since the start of the note
    controls: Mapping[str, Float64]  # each control of one row as it is stored, [F]; NaN where unconditioned


def control_targets(controls: Mapping[str, NDArray[np.generic]], frame_rate: Fraction, frames: int) -> ControlTargets:
    """Return the targets of one clip. A feature frame takes the value of the nearest control frame.

    Args:
        controls: one or more controls by name, values [T] or (`instruments`) [R, T], -1 where unconditioned; a missing
            control is unconditioned. If `pitch` is among them, velocity varies within notes, so that its steps start no
            note.
        frame_rate: frame rate of the controls in Hz.
        frames: number of feature frames F.
    """
    total = next(iter(controls.values())).shape[-1]
    absent = np.full(total, -1.0)
    velocity, chroma, pitch, brightness, instruments = (
        np.asarray(controls.get(name, absent), np.float64)
        for name in ("velocity", "chroma", "pitch", "brightness", "instruments")
    )
    rate, instruments = float(frame_rate), np.atleast_2d(instruments)
    at = np.clip(np.round(np.arange(frames) * FRAME_S * rate).astype(int), 0, total - 1)

    velocity_known, chroma_known, rests_known = velocity >= 0, chroma >= 0, (velocity >= 0) | (pitch >= 0)
    # Chroma 0 alone is a C or a rest; pitch 0 is a rest.
    sounding = np.where(velocity_known, velocity > SAME, np.where(pitch >= 0, pitch > 0, chroma > SAME))
    pitch_class = np.where(sounding & chroma_known, np.round(chroma * CHROMA_STEPS), UNSPECIFIED).astype(int)
    midi = np.where(sounding & (pitch > 0), PITCH_ORIGIN + PITCH_SPAN * pitch, np.nan)
    starts = _note_starts(velocity, chroma, midi, sounding, "pitch" in controls)
    with_velocity = np.flatnonzero(starts & velocity_known)
    seconds = _seconds(with_velocity, rate)
    changes = starts | _changes(pitch_class, 0) | _changes(sounding, 0)
    return ControlTargets(
        note=sounding[at],
        rest=(rests_known & ~sounding)[at],
        pitch_class=pitch_class[at],
        stable=_distance(changes)[at] / rate >= STABLE_S,
        instrument=np.where(instruments.max(0) >= 0.5, instruments.argmax(0), UNSPECIFIED)[at],
        rests_known=rests_known[at],
        onsets_known=(velocity_known & chroma_known)[at],
        onsets=_seconds(np.flatnonzero(starts & velocity_known & chroma_known), rate),
        velocity_onsets=seconds,
        onset_velocity=velocity[with_velocity],
        onset_end=np.append(seconds[1:], total / rate)[: len(seconds)],
        pitch=midi[at],
        velocity=np.where(velocity_known & sounding, velocity, np.nan)[at],
        brightness=np.where(brightness >= 0, brightness, np.nan)[at],
        note_number=(starts.cumsum() - 1)[at],
        note_time=((np.arange(total) - np.maximum.accumulate(np.where(starts, np.arange(total), 0))) / rate)[at],
        controls={
            name: np.where(row >= 0, row, np.nan)[at]
            for name, row in ((name, np.asarray(values, np.float64)) for name, values in controls.items())
            if row.ndim == 1
        },
    )


def _note_starts(velocity: Float64, chroma: Float64, midi: Float64, sounding: Bool, expressive: bool) -> Bool:
    """Return which frames start a note, bool [T].

    Notes start after a rest, at a step of velocity, and at a change of chroma. A step is a change between two constant
    segments, so that a drawn ramp starts no note. A change from or to an unconditioned frame starts no note.

    Args:
        velocity: velocity / 127, [T], negative where unconditioned.
        chroma: chroma as stored, [T], negative where unconditioned.
        midi: drawn pitch in MIDI note numbers, [T], NaN in rests and where unconditioned.
        sounding: whether a frame belongs to a note, bool [T].
        expressive: whether velocity varies within notes. Its steps then start no note, but jumps of pitch do where
            chroma is unconditioned.
    """
    velocity_known, chroma_known = velocity >= 0, chroma >= 0
    was_sounding = _previous(sounding)
    rests_known = velocity_known | (np.isfinite(midi) | ~sounding) & expressive
    after_rest = rests_known & _previous(rests_known, first=True)
    velocity_change = _changes(velocity)
    constant_around = ~_previous(velocity_change) & ~np.append(velocity_change[1:], False)
    new_velocity = velocity_change & constant_around & velocity_known & _previous(velocity_known)
    new_chroma = _changes(chroma) & chroma_known & _previous(chroma_known)
    jump = np.nan_to_num(np.abs(np.diff(midi, prepend=midi[:1]))) > JUMP
    new_pitch = jump & ~_previous(jump) & ~chroma_known
    changed = new_chroma | (new_pitch if expressive else new_velocity)
    return sounding & np.where(was_sounding, changed, after_rest)


def _changes(values: NDArray[np.generic], tolerance: float = SAME) -> Bool:
    """Return which frames [T] differ from the frame before by more than `tolerance`; false for the first frame."""
    return np.abs(np.diff(values.astype(float), prepend=values[:1])) > tolerance


def _previous(flags: Bool, first: bool = False) -> Bool:
    """Return for each frame the flag of the frame before, bool [T]; `first` for the first frame."""
    return np.concatenate([[first], flags[:-1]])


def _seconds(frames: Int64, rate: float) -> Float64:
    """Return the times in s of changes that are first visible at the frame numbers `frames`, at `rate` frames a second.

    A change is half a frame before the first frame that shows it, and not before 0 s.
    """
    return np.maximum(0, frames - 0.5) / rate


def _distance(change: Bool) -> Float64:
    """Return the distance of each frame to the nearest change in frames, float64 [T]; infinite without any change.

    `change` [T] is true at the first frame after a change; the change itself is half a frame before.
    """
    edges = np.flatnonzero(change) - 0.5
    frames = np.arange(len(change))
    return np.abs(frames[:, None] - edges).min(1, initial=np.inf)

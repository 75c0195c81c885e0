"""Targets of the adherence measures, read from control curves on the frames of `features.py`.

T control frames, F feature frames, I instruments. A control value below zero is unconditioned.
"""

from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from data_specs.controls import CHROMA_STEPS, Controls
from training.evaluation.features import FRAME_S

Flags = NDArray[np.bool_]
Values = NDArray[np.float64]
SAME = 1e-3  # controls closer than this are equal; MIDI velocities are 1/127 apart
UNSPECIFIED = -1  # index of a pitch class or an instrument where the control is unconditioned
STABLE_S = 0.025  # a pitch tracker's window covers both sides of a change, and the last note is still decaying


@dataclass(frozen=True)
class ControlTargets:
    """Targets of one clip. A frame is a note, a rest, or neither where the controls are unconditioned."""

    note: Flags  # [F]
    rest: Flags  # [F]
    pitch_class: NDArray[np.int64]  # [F], or UNSPECIFIED
    stable: Flags  # [F], at least `STABLE_S` from the nearest change of note
    instrument: NDArray[np.int64]  # [F], or UNSPECIFIED
    rests_known: Flags  # [F], velocity is conditioned, so every frame is a note or a rest
    onsets_known: Flags  # [F], velocity and chroma are conditioned
    onsets: Values  # [n], seconds, where both are conditioned
    velocity_onsets: Values  # [m], seconds: onsets where velocity is conditioned
    onset_velocity: Values  # [m], velocity / 127
    onset_end: Values  # [m], seconds: the next velocity onset, or the end of the clip


def control_targets(controls: Controls, frame_rate: Fraction, frames: int) -> ControlTargets:
    """Return the targets of one clip.

    Args:
        controls: curves [T]; a control may be -1 everywhere or in places.
        frame_rate: of the controls, in Hz.
        frames: number of feature frames F.
    """
    velocity, chroma, instruments = (
        np.asarray(rows, np.float64) for rows in (controls.velocity, controls.chroma, controls.instruments)
    )
    rate, total = float(frame_rate), len(velocity)
    at = np.clip(np.round(np.arange(frames) * FRAME_S * rate).astype(int), 0, total - 1)

    velocity_known, chroma_known = velocity >= 0, chroma >= 0
    sounding = np.where(velocity_known, velocity > SAME, chroma > SAME)  # chroma 0 alone is a C or a rest
    pitch_class = np.where(sounding & chroma_known, np.round(chroma * CHROMA_STEPS), UNSPECIFIED).astype(int)
    starts = _note_starts(velocity, chroma, sounding)
    with_velocity = np.flatnonzero(starts & velocity_known)
    seconds = _seconds(with_velocity, rate)
    changes = starts | _changes(pitch_class, 0) | _changes(sounding, 0)
    return ControlTargets(
        note=sounding[at],
        rest=(velocity_known & ~sounding)[at],
        pitch_class=pitch_class[at],
        stable=_distance(changes)[at] / rate >= STABLE_S,
        instrument=np.where(instruments.max(0) >= 0.5, instruments.argmax(0), UNSPECIFIED)[at],
        rests_known=velocity_known[at],
        onsets_known=(velocity_known & chroma_known)[at],
        onsets=_seconds(np.flatnonzero(starts & velocity_known & chroma_known), rate),
        velocity_onsets=seconds,
        onset_velocity=velocity[with_velocity],
        onset_end=np.append(seconds[1:], total / rate)[: len(seconds)],
    )


def _note_starts(velocity: Values, chroma: Values, sounding: Flags) -> Flags:
    """Frames [T] at which a note starts: after a rest, at a step in velocity, or at a change of chroma.

    A step is a change between two constant stretches: a drawn ramp, which changes at every frame, starts no note,
    and a note lasts two frames or more. A change from or to an unconditioned frame starts no note.
    """
    velocity_known, chroma_known = velocity >= 0, chroma >= 0
    was_sounding = _previous(sounding)
    after_rest = velocity_known & _previous(velocity_known, first=True)
    velocity_change = _changes(velocity)
    constant_around = ~_previous(velocity_change) & ~np.append(velocity_change[1:], False)
    new_velocity = velocity_change & constant_around & velocity_known & _previous(velocity_known)
    new_chroma = _changes(chroma) & chroma_known & _previous(chroma_known)
    return sounding & np.where(was_sounding, new_velocity | new_chroma, after_rest)


def _changes(values: NDArray[np.generic], tolerance: float = SAME) -> Flags:
    """Frames [T] that differ from the frame before; the first does not."""
    steps: Flags = np.abs(np.diff(values.astype(float), prepend=values[:1])) > tolerance
    return steps


def _previous(flags: Flags, first: bool = False) -> Flags:
    """Value of the frame before, [T]; `first` at the first frame."""
    return np.concatenate([[first], flags[:-1]])


def _seconds(frames: NDArray[np.int64], rate: float) -> Values:
    """Times of changes that are seen first at `frames`: half-way from the frame before."""
    return np.maximum(0, frames - 0.5) / rate


def _distance(change: Flags) -> Values:
    """Frames from each frame [T] to the nearest change, which is half a frame before the frame it marks."""
    edges = np.flatnonzero(change) - 0.5
    frames = np.arange(len(change))
    return np.abs(frames[:, None] - edges).min(1, initial=np.inf)

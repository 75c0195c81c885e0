"""What control curves ask for, on the frames of `hearing.py`.

B clips, T control frames, F heard frames, I instruments. A control value below zero asks for nothing.
"""

from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from data_specs.controls import CHROMA_STEPS, Controls
from training.evaluation.features import FRAME_S

SAME = 1e-3  # controls closer than this are equal; MIDI velocities are 1/127 apart
NOBODY = -1  # no pitch class, no instrument


@dataclass(frozen=True)
class ControlTargets:
    """The controls of one clip, frame by frame; a frame can be a note, a rest, or neither where nothing is asked."""

    note: NDArray[np.bool_]  # [F]
    rest: NDArray[np.bool_]  # [F]
    pitch_class: NDArray[np.int64]  # [F], -1 where none is asked
    settled: NDArray[np.bool_]  # [F], at least `SETTLE_S` from the nearest change of note
    instrument: NDArray[np.int64]  # [F], -1 where none is asked
    rests_known: NDArray[np.bool_]  # [F], velocity is asked, so what is no rest is a note
    onsets_known: NDArray[np.bool_]  # [F], both velocity and chroma are asked
    onsets: NDArray[np.float64]  # [n], seconds, where both are asked
    strikes: NDArray[np.float64]  # [m], seconds: onsets as far as velocity alone tells them, plus chroma's
    strike_velocity: NDArray[np.float64]  # [m], velocity / 127
    strike_end: NDArray[np.float64]  # [m], seconds: the next strike, or the clip's end


SETTLE_S = 0.025  # a pitch tracker's window looks across a change, and the last note still sounds


def asked(controls: Controls, frame_rate: Fraction, frames: int) -> ControlTargets:
    """Read controls [T] at `frame_rate` frames a second on `frames` heard frames.

    Args:
        controls: of one clip; a feature may be -1 everywhere or in places.
        frame_rate: of the controls.
        frames: F.
    """
    velocity, chroma = (np.asarray(x, np.float64) for x in (controls.velocity, controls.chroma))
    total = len(velocity)
    rate = float(frame_rate)
    at = np.clip(np.round(np.arange(frames) * FRAME_S * rate).astype(int), 0, total - 1)

    loud_known, pitch_known = velocity >= 0, chroma >= 0
    sounding = np.where(loud_known, velocity > SAME, chroma > SAME)  # chroma 0 alone may be a rest or a C
    resting = loud_known & ~sounding
    classes = np.where(sounding & pitch_known, np.round(chroma * CHROMA_STEPS), NOBODY).astype(int)

    both = loud_known & pitch_known
    struck = _struck(velocity, chroma, sounding, loud_known, pitch_known)
    times = np.flatnonzero(struck & loud_known)
    seconds = np.maximum(0, times - 0.5) / rate  # the change lies between two frames
    change = struck | (np.diff(classes, prepend=classes[0]) != 0) | np.diff(sounding, prepend=sounding[0])
    instruments = np.asarray(controls.instruments, np.float64)
    return ControlTargets(
        note=sounding[at],
        rest=resting[at],
        pitch_class=classes[at],
        settled=_distance(change)[at] / rate >= SETTLE_S,
        instrument=np.where(instruments.max(0) >= 0.5, instruments.argmax(0), NOBODY)[at],
        rests_known=loud_known[at],
        onsets_known=both[at],
        onsets=np.maximum(0, np.flatnonzero(struck & both) - 0.5) / rate,
        strikes=seconds,
        strike_velocity=velocity[times],
        strike_end=np.append(seconds[1:], total / rate)[: len(seconds)],
    )


def _struck(
    velocity: NDArray[np.float64],
    chroma: NDArray[np.float64],
    sounding: NDArray[np.bool_],
    loud_known: NDArray[np.bool_],
    pitch_known: NDArray[np.bool_],
) -> NDArray[np.bool_]:
    """Frames [T] at which a note starts: after a rest, with another chroma, or with a step in velocity.

    A step is a change between two constant stretches. A drawn ramp changes at every frame and strikes nothing; a
    note always lasts two frames, so its velocity is constant on both sides of its neighbour's.
    """
    before = np.concatenate([[False], sounding[:-1]])
    change_v = np.abs(np.diff(velocity, prepend=velocity[0])) > SAME
    change_c = np.abs(np.diff(chroma, prepend=chroma[0])) > SAME
    quiet_before = ~np.concatenate([[False], change_v[:-1]])
    quiet_after = ~np.concatenate([change_v[1:], [False]])
    step = change_v & quiet_before & quiet_after & _held(loud_known)
    return sounding & (~before & _held(loud_known, start=True) | before & (step | change_c & _held(pitch_known)))


def _held(known: NDArray[np.bool_], start: bool = False) -> NDArray[np.bool_]:
    """Known here and a frame earlier; at the first frame as `start` says."""
    return known & np.concatenate([[start], known[:-1]])


def _distance(change: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Frames from each frame [T] to the nearest change, which lies just before the frame it marks."""
    edges = np.flatnonzero(change) - 0.5
    if not len(edges):
        return np.full(len(change), np.inf)
    frames = np.arange(len(change))
    after = np.searchsorted(edges, frames)
    left = np.where(after > 0, frames - edges[np.maximum(after - 1, 0)], np.inf)
    right = np.where(after < len(edges), edges[np.minimum(after, len(edges) - 1)] - frames, np.inf)
    return np.minimum(left, right)

"""Curves of pitch for models that have chroma only."""

import math
from itertools import pairwise

from data_specs.controls.base import Points, Value
from data_specs.controls.chroma import CHROMA_STEPS


def chroma_of_pitch(points: Points, linear: bool) -> Points:
    """Return the points of the step curve of chroma (k / 11, rest or None) nearest to a curve of pitch.

    Args:
        points: (sample, value) in order, at least one; a value is a MIDI note number as a float, rest or None.
        linear: whether pitch moves linearly between points; else it is held.
    """
    found: list[tuple[int, Value]] = []
    for (start, here), (stop, there) in pairwise((*points, (points[-1][0], None))):
        found.append((start, _chroma(here)))
        if linear and isinstance(here, float) and isinstance(there, float) and start < stop:
            found += _crossings(start, here, stop, there)
    return tuple(found)


def _chroma(value: Value) -> Value:
    return math.floor(value + 0.5) % 12 / CHROMA_STEPS if isinstance(value, float) else value


def _crossings(start: int, here: float, stop: int, there: float) -> list[tuple[int, Value]]:
    """Return (sample, chroma) where a line between two pitches becomes nearer to the next semitone.

    The line runs from pitch `here` at sample `start` to pitch `there` at sample `stop`.
    """
    first, last = math.floor(here + 0.5), math.floor(there + 0.5)
    step = 1 if last > first else -1
    crossings: list[tuple[int, Value]] = []
    for semitone in range(first + step, last + step, step) if first != last else ():
        boundary = semitone - 0.5 * step
        sample = start + math.ceil((boundary - here) / (there - here) * (stop - start))
        crossings.append((min(sample, stop), _chroma(float(semitone))))
    return crossings

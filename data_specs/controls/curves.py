"""Curves that a person draws over time, and the control arrays that the networks are given.

A curve is a list of points. Each point holds from its own time until the next one; `None` leaves its feature free
("unconditional") until the next point, and so does the time before the first one. The last point holds to the end.
Times are integers: samples at 24 kHz, as everywhere in a dataset. Frame i looks at sample i * hop, so no float decides
on which side of an edge a frame lies. T frames, R rows of a feature.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_specs.controls import CONTROLS, INSTRUMENTS, UNCONDITIONED, VELOCITY, Control
from data_specs.controls.base import Float32, Interpolation, Points, exact_number
from data_specs.errors import UserError

RATE = 24_000  # samples a second in which points are placed
MAX_SECONDS = 600
MAX_POINTS = 100_000


@dataclass(frozen=True)
class Curve:
    """One feature over time: points (sample, value) in order. Two points at one time are a jump."""

    points: Points
    interpolation: Interpolation

    def __post_init__(self) -> None:
        if not self.points:
            raise ValueError("a curve has at least one point")
        if self.points[0][0] < 0 or any(after[0] < before[0] for before, after in pairwise(self.points)):
            raise ValueError("points are in order of time, from 0 on")


@dataclass(frozen=True)
class Curves:
    """Curves by feature; a feature that is left out is free all the time.

    Attributes:
        curves: a Curve for each feature that is drawn.
        notices: what was changed while reading, for the person who drew it.
    """

    curves: Mapping[str, Curve]
    notices: tuple[str, ...] = field(default=(), compare=False)

    @property
    def samples(self) -> int:
        """Sample of the last point; 0 without points."""
        return max((curve.points[-1][0] for curve in self.curves.values()), default=0)

    @property
    def instruments(self) -> tuple[str, ...]:
        """Names of the instruments that occur, in order of appearance."""
        points = self.curves[INSTRUMENTS].points if INSTRUMENTS in self.curves else ()
        return tuple(dict.fromkeys(str(value) for _, value in points if value is not None))

    def arrays(self, instruments: Sequence[str], samples: int, frames: int, hop: int) -> dict[str, Float32]:
        """The control arrays of a clip, float32: [T] for features of one row, [R, T] for others; -1 is free.

        Args:
            instruments: names of the dataset's instruments, in the order of their rows.
            samples: length of the clip at 24 kHz; no point may lie beyond it.
            frames: number of frames T.
            hop: samples between frames.

        Raises:
            UserError: a point beyond the clip, or an instrument that the dataset does not have.
        """
        if self.samples > samples:
            raise UserError(
                f"a point at {self.samples / RATE:g} s lies after the end of a clip of {samples / RATE:g} s; "
                f"move it, or ask for more with SECONDS="
            )
        found: dict[str, Float32] = {}
        for name, control in CONTROLS.items():
            curve = self.curves.get(name)
            if curve is None:
                rows = np.full((control.rows(len(instruments)), frames), UNCONDITIONED)
            else:
                rows = _sampled(curve, control, instruments, frames, hop)
            found[name] = (rows[0] if control.one_row else rows).astype(np.float32)
        return found

    def without(self, name: str) -> "Curves":
        """The same with one feature free."""
        return Curves({other: curve for other, curve in self.curves.items() if other != name}, self.notices)

    def cropped(self, samples: int) -> "Curves":
        """The same up to sample `samples`; a line that is cut ends there at the value it had."""
        return Curves({name: _cropped(curve, samples) for name, curve in self.curves.items()}, self.notices)

    @classmethod
    def of_arrays(cls, arrays: Mapping[str, NDArray[Any]], instruments: Sequence[str], hop: int) -> "Curves":
        """From control arrays as `arrays` gives them: steps at the frames where values change.

        Raises:
            UserError: arrays that curves cannot describe.
        """
        curves = {}
        sounding = np.asarray(arrays[VELOCITY]) != 0
        for name, control in CONTROLS.items():
            frames = np.atleast_2d(np.asarray(arrays[name], np.float32))
            changes = np.flatnonzero(np.any(frames[:, 1:] != frames[:, :-1], axis=0)) + 1
            points = tuple(
                (start * hop, control.value(frames[:, start], bool(sounding[start]), instruments))
                for start in (0, *changes.tolist())
            )
            if any(value is not None for _, value in points):
                curves[name] = Curve(points, "step")
        return cls(curves)

    @classmethod
    def of_notes(cls, notes: NDArray[Any], instrument: str | None) -> "Curves":
        """From a melody: integers [n, 4] of onset and offset in samples, MIDI pitch, velocity; one note at a time.

        Sampled at any hop it gives what `data_specs.controls.control_arrays` gives for the same notes.
        """
        listed = np.asarray(notes).tolist()
        points = {name: control.of_notes(listed, instrument) for name, control in CONTROLS.items()}
        return cls({name: Curve(found, "step") for name, found in points.items() if found})


def free_spans(values: NDArray[Any]) -> list[tuple[int, int]]:
    """Spans [start, stop) of frames in which a feature, [T] or [R, T], is free."""
    free = (np.atleast_2d(values) == UNCONDITIONED).all(axis=0)
    edges = np.flatnonzero(np.diff(np.concatenate([[False], free, [False]])))
    return [(int(start), int(stop)) for start, stop in edges.reshape(-1, 2)]


def _sampled(curve: Curve, control: Control, instruments: Sequence[str], frames: int, hop: int) -> NDArray[np.float64]:
    rows = np.full((control.rows(len(instruments)), frames), UNCONDITIONED)
    firsts = [min(frames, -(-sample // hop)) for sample, _ in curve.points] + [frames]
    columns = [None if value is None else control.column(value, instruments) for _, value in curve.points] + [None]
    for k, (start, stop) in enumerate(pairwise(firsts)):
        column, following = columns[k], columns[k + 1]
        if column is None or start == stop:
            continue
        if curve.interpolation == "linear" and following is not None:
            here, there = curve.points[k][0], curve.points[k + 1][0]
            share = (np.arange(start, stop) * hop - here) / (there - here)
            rows[:, start:stop] = control.settle(column[:, None] + (following - column)[:, None] * share)
        else:
            rows[:, start:stop] = control.settle(column[:, None])
    return rows


def _cropped(curve: Curve, samples: int) -> Curve:
    kept = [point for point in curve.points if point[0] <= samples] or [(0, None)]
    beyond = curve.points[len(kept) :]
    here, value = kept[-1]
    there, target = beyond[0] if beyond else (here, None)
    if here < samples and curve.interpolation == "linear" and isinstance(value, float) and isinstance(target, float):
        kept.append((samples, value + (target - value) * (samples - here) / (there - here)))
    return Curve(tuple(kept), curve.interpolation)


def time_sample(value: Any) -> int:
    """A time in seconds -> the nearest sample.

    Raises:
        UserError: no number, not finite, negative or beyond `MAX_SECONDS`.
    """
    seconds = exact_number(value, "a time in seconds")
    if not 0 <= seconds <= MAX_SECONDS:
        raise UserError(f"time {seconds:.6g} s is outside 0..{MAX_SECONDS} s")
    return int(seconds * RATE + Decimal("0.5"))

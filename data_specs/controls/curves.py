"""Drawn curves, and the control arrays sampled from them.

A curve is a list of points. Until the next point its value holds (step) or moves to the next value (linear); the last
one holds to the end. `None` leaves the feature unconditioned until the next point, and so does the time before the
first point. Times are integers: samples at 24 kHz, as everywhere in a dataset. Frame i reads sample i * hop, so no
rounding moves a frame across an edge. T frames, R rows of a feature.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_specs.arrays import Bool, Float32, Float64
from data_specs.controls import CHROMA, CONTROLS, FEATURES, INSTRUMENTS, PITCH, UNCONDITIONED, VELOCITY, Control
from data_specs.controls.base import REST, Interpolation, Points, parse_decimal
from data_specs.controls.pitch_curves import chroma_of_pitch
from data_specs.errors import UserError
from data_specs.rates import SAMPLE_RATE

MAX_SECONDS = 600
MAX_POINTS = 100_000
NOTICE_HOP = 320  # samples between the times at which contradictions are looked for
LEVELS = (VELOCITY, PITCH)  # controls that are 0 where nothing sounds


@dataclass(frozen=True)
class Curve:
    """One feature over time: points (sample, value) in order of time. Two points at one time are a jump.

    Raises:
        ValueError: no points, out of order, or at a sample below 0.
    """

    points: Points
    interpolation: Interpolation

    def __post_init__(self) -> None:
        if not self.points:
            raise ValueError("a curve must have at least one point")
        if self.points[0][0] < 0 or any(after[0] < before[0] for before, after in pairwise(self.points)):
            raise ValueError("points must be in order of time, at samples >= 0")


@dataclass(frozen=True)
class Curves:
    """Curves by feature; an absent feature is unconditioned throughout.

    Attributes:
        curves: a Curve for each drawn feature.
        notices: sentences for the user about values that were changed or contradict each other.
    """

    curves: Mapping[str, Curve]
    notices: tuple[str, ...] = field(default=(), compare=False)

    @property
    def samples(self) -> int:
        """Sample index of the last point of any curve; 0 without curves."""
        return max((curve.points[-1][0] for curve in self.curves.values()), default=0)

    @property
    def instruments(self) -> tuple[str, ...]:
        """Names of the instruments in the curves, each once, in order of appearance."""
        points = self.curves[INSTRUMENTS].points if INSTRUMENTS in self.curves else ()
        return tuple(dict.fromkeys(str(value) for _, value in points if value is not None))

    def arrays(
        self, instruments: Sequence[str], samples: int, frames: int, hop: int, names: Sequence[str] = FEATURES
    ) -> dict[str, Float32]:
        """Return the control arrays of a clip, float32, [T] for features of one row, else [R, T]; -1 is unconditioned.

        Args:
            instruments: names of the dataset's instruments, in the order of their rows.
            samples: length of the clip at 24 kHz; no point may be beyond it.
            frames: number of frames T.
            hop: samples between frames.
            names: the features to return, those of the model.

        A rest drawn as chroma or pitch sets velocity to 0 at frames where velocity is unconditioned.

        Raises:
            UserError: a point is beyond the clip, or an instrument is not in the dataset.
        """
        if self.samples > samples:
            raise UserError(
                f"points must be within the clip of {samples / SAMPLE_RATE:g} s, "
                f"got one at {self.samples / SAMPLE_RATE:g} s; move it, or make the clip longer with SECONDS="
            )
        found: dict[str, Float32] = {}
        for name in names:
            curve, control = self.curves.get(name), CONTROLS[name]
            if curve is None:
                rows = np.full((control.rows(len(instruments)), frames), UNCONDITIONED)
            else:
                rows = _sampled(curve, control, instruments, frames, hop)
            found[name] = (rows[0] if control.one_row else rows).astype(np.float32)
        if VELOCITY in found:
            # promise: drawn-rest-velocity-0
            found[VELOCITY][self.rests(frames, hop) & (found[VELOCITY] == UNCONDITIONED)] = 0
        return found

    def rests(self, frames: int, hop: int) -> Bool:
        """Return the frames at which any curve has a drawn rest (the value "rest"), bool [T]; velocity 0 is none."""
        mask = np.zeros(frames, np.bool_)
        for curve in self.curves.values():
            firsts = [min(frames, -(-sample // hop)) for sample, _ in curve.points] + [frames]
            for (start, stop), (_, value) in zip(pairwise(firsts), curve.points, strict=True):
                mask[start:stop] |= value == REST
        return mask

    def for_controls(self, names: Sequence[str]) -> "Curves":
        """Return the curves for a model with the controls `names`, with added notices of changes and contradictions.

        For a model with chroma but without pitch, pitch becomes chroma; it is left out if chroma is drawn too.

        Raises:
            UserError: any other control that the model does not have.
        """
        curves, notices = dict(self.curves), list(self.notices)
        if PITCH in curves and PITCH not in names and CHROMA in names:
            pitch = curves.pop(PITCH)
            if CHROMA not in curves:
                curves[CHROMA] = Curve(chroma_of_pitch(pitch.points, pitch.interpolation == "linear"), "step")
                notices.append("pitch is converted to chroma, since the model has no octaves")
            else:
                notices.append("pitch is left out, since the model has no octaves; it follows chroma")
        if unknown := [name for name in curves if name not in names]:
            raise UserError(f"curves must be of the model's controls {', '.join(names)}, got {unknown[0]}; remove it")
        return Curves(curves, (*notices, *Curves(curves)._contradictions()))

    def _contradictions(self) -> Iterator[str]:
        """Iterate over sentences: first time of a velocity above 0 in a drawn rest, first time of velocity 0 in a note.

        There are at most two. The curves are compared every 320 samples.
        """
        if VELOCITY not in self.curves or not self.curves.keys() & {CHROMA, PITCH}:
            return
        frames = self.samples // NOTICE_HOP + 2  # with what follows the last point
        velocity = self.arrays((), self.samples, frames, NOTICE_HOP, (VELOCITY,))[VELOCITY]
        rests = self.rests(frames, NOTICE_HOP)
        notes = np.zeros(frames, np.bool_)
        for name in self.curves.keys() & {CHROMA, PITCH}:
            notes |= self.arrays((), self.samples, frames, NOTICE_HOP, (name,))[name] != UNCONDITIONED
        for mask, sentence in (
            (rests & (velocity > 0), "velocity is above 0 in a drawn rest"),
            (notes & ~rests & (velocity == 0), "velocity is 0 in a drawn note"),
        ):
            if mask.any():
                at = int(np.flatnonzero(mask)[0]) * NOTICE_HOP / SAMPLE_RATE
                yield f"{sentence} at {at:.2f} s; the sample may follow either"

    def without(self, name: str) -> "Curves":
        """Return a copy with the feature `name` unconditioned; it need not be drawn."""
        return Curves({other: curve for other, curve in self.curves.items() if other != name}, self.notices)

    def cropped(self, samples: int) -> "Curves":
        """Return the curves without the points after sample `samples`; a line that is cut ends at its value there."""
        return Curves({name: _cropped(curve, samples) for name, curve in self.curves.items()}, self.notices)

    @classmethod
    def from_arrays(
        cls,
        arrays: Mapping[str, NDArray[Any]],
        instruments: Sequence[str],
        hop: int,
        level: NDArray[Any] | None = None,
    ) -> "Curves":
        """Return step curves for control arrays as `arrays` gives them, with points where values change.

        Features that are unconditioned throughout are left out.

        Args:
            arrays: by feature, [T] or [R, T].
            instruments: names in the order of the rows of the control `instruments`.
            hop: samples between frames.
            level: 0 where nothing sounds, [T]; for None the velocity, without one the pitch; without both all sounds.

        Raises:
            UserError: a frame holds values that no point gives.
        """
        curves = {}
        if level is None:
            level = next((arrays[name] for name in LEVELS if name in arrays), np.ones(1))
        sounding = np.broadcast_to(np.asarray(level) != 0, np.shape(next(iter(arrays.values())))[-1:])
        for name, control in ((name, CONTROLS[name]) for name in CONTROLS if name in arrays):
            frames = np.atleast_2d(np.asarray(arrays[name], np.float32))
            told = np.vstack([frames, sounding]) if name == CHROMA else frames  # 0 is C or a rest
            changes = np.flatnonzero(np.any(told[:, 1:] != told[:, :-1], axis=0)) + 1
            points = tuple(
                (start * hop, control.from_frame(frames[:, start], bool(sounding[start]), instruments))
                for start in (0, *changes.tolist())
            )
            if any(value is not None for _, value in points):
                curves[name] = Curve(points, "step")
        return cls(curves)

    @classmethod
    def from_notes(
        cls, notes: NDArray[Any] | Sequence[Sequence[float]], instrument: str | None, names: Sequence[str] = FEATURES
    ) -> "Curves":
        """Return step curves of a melody: n rows of onset and offset in samples, MIDI pitch, velocity.

        `instrument` is its name, None to leave that control out; so are those of `names` that notes do not give.
        Pitch and velocity may have fractions; a note whose pitch or velocity moves is several adjacent rows.
        Sampled at any hop they equal `data_specs.controls.control_arrays` of the same notes.
        """
        listed = np.asarray(notes, object).tolist()
        points = {name: CONTROLS[name].from_notes(listed, instrument) for name in names}
        return cls({name: Curve(found, "step") for name, found in points.items() if found})


def unconditioned_spans(values: NDArray[Any]) -> list[tuple[int, int]]:
    """Return the spans [start, stop) of frames in which all rows of a feature, [T] or [R, T], are unconditioned."""
    return true_spans((np.atleast_2d(values) == UNCONDITIONED).all(axis=0))


def true_spans(mask: Bool) -> list[tuple[int, int]]:
    """Return the spans [start, stop) of indices at which a mask [T] is true, in order."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], mask, [False]])))
    return [(int(start), int(stop)) for start, stop in edges.reshape(-1, 2)]


def _sampled(curve: Curve, control: Control, instruments: Sequence[str], frames: int, hop: int) -> Float64:
    rows = np.full((control.rows(len(instruments)), frames), UNCONDITIONED)
    firsts = [min(frames, -(-sample // hop)) for sample, _ in curve.points] + [frames]
    values = [None if value is None else control.to_frame(value, instruments) for _, value in curve.points] + [None]
    for k, (start, stop) in enumerate(pairwise(firsts)):
        frame, following = values[k], values[k + 1]
        if frame is None or start == stop:
            continue
        rest = REST in (curve.points[k][1], curve.points[min(k + 1, len(curve.points) - 1)][1])
        if curve.interpolation == "linear" and following is not None and not rest:
            here, there = curve.points[k][0], curve.points[k + 1][0]
            share = (np.arange(start, stop) * hop - here) / (there - here)
            rows[:, start:stop] = control.quantize(frame[:, None] + (following - frame)[:, None] * share)
        else:
            rows[:, start:stop] = control.quantize(frame[:, None])
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
    """Return the sample at 24 kHz nearest to a time in seconds, a half rounded up.

    Raises:
        UserError: not a finite number in 0..600.
    """
    seconds = parse_decimal(value, "time")
    if not 0 <= seconds <= MAX_SECONDS:
        raise UserError(f"time must be in 0..{MAX_SECONDS} s, got {seconds:.6g} s")
    return int(seconds * SAMPLE_RATE + Decimal("0.5"))

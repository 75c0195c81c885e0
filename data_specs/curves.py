"""Curves that a person draws over time, and the control arrays that the networks are given.

A curve is a list of points. Each point holds from its own time until the next one; `None` leaves its feature free
("unconditional") until the next point, and so does the time before the first one. The last point holds to the end.
Times are integers: samples at 24 kHz, as everywhere in a dataset. Frame i looks at sample i * hop, so no float decides
on which side of an edge a frame lies. T frames, R rows of a feature.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from itertools import pairwise
from numbers import Rational, Real
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from data_specs.controls import CHROMA_STEPS, MAX_VELOCITY, UNCONDITIONED
from data_specs.errors import UserError

RATE = 24_000  # samples a second in which points are placed
MAX_SECONDS = 600
MAX_POINTS = 100_000
REST = "rest"  # chroma of a rest: the same 0 as C, in words
NOTES = ("C", "C#", "D", "D#", "E", "F", "F#", "G", "G#", "A", "A#", "B")

Value: TypeAlias = float | str | None
Interpolation = Literal["linear", "step"]
Float32 = NDArray[np.float32]


@dataclass(frozen=True)
class Curve:
    """One feature over time: points (sample, value) in order. Two points at one time are a jump."""

    points: tuple[tuple[int, Value], ...]
    interpolation: Interpolation

    def __post_init__(self) -> None:
        if not self.points:
            raise ValueError("a curve has at least one point")
        if self.points[0][0] < 0 or any(after[0] < before[0] for before, after in pairwise(self.points)):
            raise ValueError("points are in order of time, from 0 on")


class Feature(ABC):
    """How one control feature is written by people and told to networks. A feature is one subclass and one line."""

    default: Interpolation = "step"
    interpolations: tuple[Interpolation, ...] = ("linear", "step")

    @abstractmethod
    def read(self, value: Any) -> tuple[Value, str]:
        """A written value -> the value of a point, and a notice where it had to be changed (else empty).

        Raises:
            UserError: what is wrong with the value, without where it stands.
        """

    def write(self, value: Value) -> float | str | None:
        """The inverse of `read`, in the form that is easiest to read."""
        return value

    def rows(self, instruments: Sequence[str]) -> int:
        """Number of rows R."""
        return 1

    @abstractmethod
    def column(self, value: Any, instruments: Sequence[str]) -> NDArray[np.float64]:
        """A point's value -> one frame [R].

        Raises:
            UserError: a value that this dataset does not know.
        """

    @abstractmethod
    def value(self, column: Float32, instruments: Sequence[str]) -> Value:
        """One frame [R] -> a point's value; the inverse of `column`.

        Raises:
            UserError: a frame that no point can stand for.
        """

    def settle(self, frames: NDArray[np.float64]) -> NDArray[np.float64]:
        """Interpolated frames [R, T] -> values that occur in data."""
        return frames


class Velocity(Feature):
    """Loudness of the note that plays, MIDI velocity / 127; 0 in rests. Drawn as lines."""

    default: Interpolation = "linear"

    def read(self, value: Any) -> tuple[Value, str]:
        number = _number(value, "a velocity")
        if not 0 <= number <= 1:
            raise UserError(f"velocity {number:g} is outside 0..1; divide MIDI velocities by 127, write null for free")
        return number, ""

    def write(self, value: Value) -> float | str | None:
        return float(str(np.float32(value))) if isinstance(value, float) else value

    def column(self, value: Any, instruments: Sequence[str]) -> NDArray[np.float64]:
        return np.array([value])

    def value(self, column: Float32, instruments: Sequence[str]) -> Value:
        return _shortest(column[0], "velocity")


class Chroma(Feature):
    """Pitch class of the note that plays, k/11 for k semitones above C; 0 in rests as well."""

    def read(self, value: Any) -> tuple[Value, str]:
        if isinstance(value, str):
            return (REST if value.strip().lower() == REST else _pitch_class(value) / CHROMA_STEPS), ""
        number = _number(value, "a chroma")
        if not 0 <= number <= 1:
            raise UserError(f"chroma {number:g} is outside 0..1; write a note name such as F#, k/11, or null for free")
        k = round(number * CHROMA_STEPS)
        changed = abs(number * CHROMA_STEPS - k) > 0.01
        return k / CHROMA_STEPS, f"chroma {number:g} taken as {k}/{CHROMA_STEPS} ({NOTES[k]})" if changed else ""

    def write(self, value: Value) -> float | str | None:
        return NOTES[round(value * CHROMA_STEPS)] if isinstance(value, float) else value

    def column(self, value: Any, instruments: Sequence[str]) -> NDArray[np.float64]:
        return np.array([0.0 if value == REST else value])

    def value(self, column: Float32, instruments: Sequence[str]) -> Value:
        number = _shortest(column[0], "chroma")
        return None if number is None else round(number * CHROMA_STEPS) / CHROMA_STEPS

    def settle(self, frames: NDArray[np.float64]) -> NDArray[np.float64]:
        # Between two notes a line becomes the chromatic scale: no other values exist in data.
        return np.asarray(np.floor(frames * CHROMA_STEPS + 0.5) / CHROMA_STEPS)


class Instruments(Feature):
    """Which instrument plays: one row each, 1 for the one that does."""

    interpolations: tuple[Interpolation, ...] = ("step",)

    def read(self, value: Any) -> tuple[Value, str]:
        if not isinstance(value, str) or not value.strip():
            raise UserError(f"{_shown(value)} is no instrument; write its name in quotes, or null for free")
        return value.strip(), ""

    def rows(self, instruments: Sequence[str]) -> int:
        return len(instruments)

    def column(self, value: Any, instruments: Sequence[str]) -> NDArray[np.float64]:
        if value not in instruments:
            raise UserError(f"instrument {_shown(value)} is not known here; choose from {', '.join(instruments)}")
        return np.array([float(name == value) for name in instruments])

    def value(self, column: Float32, instruments: Sequence[str]) -> Value:
        if (column == UNCONDITIONED).all():
            return None
        playing = np.flatnonzero(column)
        if len(playing) != 1 or column[playing[0]] != 1:
            raise UserError("instruments are neither one at a time nor free; curves cannot describe that")
        return instruments[playing[0]]


FEATURES: dict[str, Feature] = {"velocity": Velocity(), "chroma": Chroma(), "instruments": Instruments()}


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
        points = self.curves["instruments"].points if "instruments" in self.curves else ()
        return tuple(dict.fromkeys(str(value) for _, value in points if value is not None))

    def arrays(self, instruments: Sequence[str], samples: int, frames: int, hop: int) -> dict[str, Float32]:
        """The control arrays of a clip, float32: [T] for features of one row, [R, T] for instruments; -1 is free.

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
        for name, feature in FEATURES.items():
            curve = self.curves.get(name)
            if curve is None:
                rows = np.full((feature.rows(instruments), frames), UNCONDITIONED)
            else:
                rows = _sampled(curve, feature, instruments, frames, hop)
            found[name] = (rows if name == "instruments" else rows[0]).astype(np.float32)
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
        for name, feature in FEATURES.items():
            frames = np.atleast_2d(np.asarray(arrays[name], np.float32))
            changes = np.flatnonzero(np.any(frames[:, 1:] != frames[:, :-1], axis=0)) + 1
            starts = [0, *changes.tolist()]
            points = tuple((start * hop, feature.value(frames[:, start], instruments)) for start in starts)
            if name == "chroma":  # 0 is a C or a rest; only the velocity tells which
                silent = np.asarray(arrays["velocity"]) == 0
                points = tuple((at, REST if value == 0 and silent[at // hop] else value) for at, value in points)
            if any(value is not None for _, value in points):
                curves[name] = Curve(points, "step")
        return cls(curves)

    @classmethod
    def of_notes(cls, notes: NDArray[Any], instrument: str | None) -> "Curves":
        """From a melody: integers [n, 4] of onset and offset in samples, MIDI pitch, velocity; one note at a time.

        Sampled at any hop it gives what `data_specs.controls.controls` gives for the same notes.
        """
        velocity: list[tuple[int, Value]] = [(0, 0.0)]
        chroma: list[tuple[int, Value]] = [(0, REST)]
        for onset, offset, pitch, loudness in np.asarray(notes).tolist():
            played: list[tuple[list[tuple[int, Value]], Value, Value]] = [
                (velocity, loudness / MAX_VELOCITY, 0.0),
                (chroma, pitch % 12 / CHROMA_STEPS, REST),
            ]
            for points, value, silence in played:
                if points[-1][0] == onset:  # the rest before it has no length
                    points.pop()
                points += [(onset, value), (offset, silence)]
        curves = {"velocity": Curve(tuple(velocity), "step"), "chroma": Curve(tuple(chroma), "step")}
        if instrument is not None:
            curves["instruments"] = Curve(((0, instrument),), "step")
        return cls(curves)


def free_spans(values: NDArray[Any]) -> list[tuple[int, int]]:
    """Spans [start, stop) of frames in which a feature, [T] or [R, T], is free."""
    free = (np.atleast_2d(values) == UNCONDITIONED).all(axis=0)
    edges = np.flatnonzero(np.diff(np.concatenate([[False], free, [False]])))
    return [(int(start), int(stop)) for start, stop in edges.reshape(-1, 2)]


def _sampled(curve: Curve, feature: Feature, instruments: Sequence[str], frames: int, hop: int) -> NDArray[np.float64]:
    rows = np.full((feature.rows(instruments), frames), UNCONDITIONED)
    firsts = [min(frames, -(-sample // hop)) for sample, _ in curve.points] + [frames]
    columns = [None if value is None else feature.column(value, instruments) for _, value in curve.points] + [None]
    for k, (start, stop) in enumerate(pairwise(firsts)):
        column, following = columns[k], columns[k + 1]
        if column is None or start == stop:
            continue
        if curve.interpolation == "linear" and following is not None:
            here, there = curve.points[k][0], curve.points[k + 1][0]
            share = (np.arange(start, stop) * hop - here) / (there - here)
            rows[:, start:stop] = feature.settle(column[:, None] + (following - column)[:, None] * share)
        else:
            rows[:, start:stop] = feature.settle(column[:, None])
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


def _number(value: Any, what: str) -> float:
    return float(exact_number(value, what))


def exact_number(value: Any, what: str) -> Decimal:
    """Exactly what was written: 0.1 is a tenth, not the binary fraction next to it."""
    if isinstance(value, bool) or not isinstance(value, (Real, Decimal)):
        raise UserError(f"{_shown(value)} is not {what}")
    try:
        if isinstance(value, Rational):
            number = Decimal(int(value.numerator)) / Decimal(int(value.denominator))
        else:
            number = value if isinstance(value, Decimal) else Decimal(repr(float(value)))
    except (InvalidOperation, OverflowError):
        raise UserError(f"{_shown(value)} is not {what}") from None
    if not number.is_finite():
        raise UserError(f"{_shown(value)} is not {what}")
    return number


def _shortest(value: np.float32, what: str) -> float | None:
    """The shortest decimal that gives the same float32 again; None for free."""
    if value == UNCONDITIONED:
        return None
    if not 0 <= value <= 1:
        raise UserError(f"{what} {value:g} is neither in 0..1 nor free (-1)")
    return float(str(value))


def _pitch_class(name: str) -> int:
    text = name.strip().replace("♯", "#").replace("♭", "b")
    natural, accidentals = text[:1].upper(), text[1:]
    if natural not in NOTES or natural == "" or accidentals not in ("", "#", "b"):
        raise UserError(f"{_shown(name)} is no note; write C, C#, Db, D ... B, or rest")
    return (NOTES.index(natural) + {"": 0, "#": 1, "b": -1}[accidentals]) % 12


def _shown(value: Any) -> str:
    text = str(value) if isinstance(value, (Real, Decimal)) and not isinstance(value, bool) else repr(value)
    return text if len(text) <= 40 else f"{text[:37]}..."

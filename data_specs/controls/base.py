"""Interface of a control feature: computed from notes, drawn as curves, given to networks.

T frames, R rows of a feature, I instruments. Frame i reads sample i * hop; a note covers the samples
onset <= s < offset.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from numbers import Rational, Real
from typing import Any, ClassVar, Literal, TypeAlias

# promise: none-imported-pipeline-training-2
import numpy as np
from numpy.typing import NDArray

from data_specs.arrays import Bool, Float32, Float64, Int64
from data_specs.controls.automation import BLOCK, Automation
from data_specs.errors import UserError

MAX_VELOCITY = 127  # of MIDI
REST = "rest"  # value of a drawn rest: stored as 0
UNCONDITIONED = -1.0  # value of a feature, in all its rows, at frames where it conditions nothing

Value: TypeAlias = float | str | None
Points: TypeAlias = tuple[tuple[int, Value], ...]  # (sample, value)
Interpolation = Literal["linear", "step"]
Lane = Literal["area", "notes", "pitch", "line", "strip"]


@dataclass(frozen=True)
class FrameNotes:
    """The note at each frame of a clip.

    Attributes:
        sounding: bool [T], whether a note sounds.
        pitch: MIDI pitch of the note, integers [T]; undefined in rests.
        velocity: MIDI velocity of the note, [T], with fractions under automation; undefined in rests.
        bend: semitones off the note's pitch, float64 [T]; undefined in rests.
        brightness: filter automation, 1 open, float64 [T].
        instrument: index of the instrument, int64 [T]; in rests that of the note before.
        instruments: number of instruments I.
    """

    sounding: Bool
    pitch: NDArray[Any]
    velocity: NDArray[Any]
    bend: Float64
    brightness: Float64
    instrument: Int64
    instruments: int


class Control(ABC):
    """One control feature: one subclass and one entry in `CONTROLS`."""

    name: ClassVar[str]
    unit: ClassVar[str] = ""  # of the stored values
    origin: ClassVar[Literal["exact", "measured"]] = "exact"  # in rendered clips: from the performance or the audio
    descriptor: ClassVar[str] = ""  # of `AudioAnalysis` that the feature is measured by; empty if it cannot be
    encoding: ClassVar[int] = 12  # triangular functions that encode a row for a network
    default: Interpolation = "step"  # of curves without an interpolation of their own
    interpolations: tuple[Interpolation, ...] = ("linear", "step")
    one_row: bool = True  # stored as [T], else as [R, T]
    lane: ClassVar[Lane] = "line"  # how figures and pages draw it

    def from_frames(self, notes: FrameNotes) -> NDArray[Any]:
        """Return the feature of a rendered clip, [T] or [R, T]; for features of exact origin."""
        raise NotImplementedError(self.name)

    def from_descriptor(self, values: Float32) -> NDArray[Any]:
        """Return the feature of a clip, [T], from its measured `descriptor` [T], NaN where undefined."""
        raise NotImplementedError(self.name)

    @abstractmethod
    def is_invalid(self, arrays: Mapping[str, NDArray[Any]]) -> bool:
        """Return whether a stored clip, arrays by feature, holds values of this feature that no clip can have."""

    def from_notes(self, notes: Sequence[Sequence[int]], instrument: str | None) -> Points:
        """Return the points of the step curve that notes give; empty if the feature cannot be drawn.

        Args:
            notes: onset and offset in samples, MIDI pitch, velocity; monophonic.
            instrument: name of the instrument, None for any.
        """
        return ()

    @abstractmethod
    def parse(self, value: Any) -> tuple[Value, str]:
        """Return the point value of a written value, and a notice if the value was changed (else empty).

        Raises:
            UserError: the value is invalid; the message does not name its place.
        """

    def announce(self, written: Sequence[Any]) -> str:
        """Return a notice about how the written values of a curve were read; empty if they are unambiguous."""
        return ""

    def format(self, value: Value) -> float | str | None:
        """Return the most readable written form of a point value; the inverse of `parse`."""
        return value

    def rows(self, instruments: int) -> int:
        """Return the number of rows R in a dataset of I instruments."""
        return 1

    def shape(self, frames: int, instruments: int) -> tuple[int, ...]:
        """Return the stored shape, [T] or [R, T]."""
        # promise: class-entry-shards-their
        return (frames,) if self.one_row else (self.rows(instruments), frames)

    @abstractmethod
    def to_frame(self, value: Any, instruments: Sequence[str]) -> Float64:
        """Return the frame [R] of a point value.

        Raises:
            UserError: the value does not exist in this dataset.
        """

    @abstractmethod
    def from_frame(self, frame: Float32, sounding: bool, instruments: Sequence[str]) -> Value:
        """Return the point value of a frame [R] at which a note sounds or not; the inverse of `to_frame`.

        Raises:
            UserError: no point value gives this frame.
        """

    def quantize(self, frames: Float64) -> Float64:
        """Return interpolated frames [R, T] rounded to values that occur in data."""
        return frames


class LevelControl(Control):
    """A control of one row that is drawn as a level in 0..1."""

    default: Interpolation = "linear"
    advice: ClassVar[str] = "write null for unconditioned"  # of the message about values out of range

    def parse(self, value: Any) -> tuple[Value, str]:
        level = parse_number(value, self.name)
        if not 0 <= level <= 1:
            raise UserError(f"{self.name} must be in 0..1, got {level:g}; {self.advice}")
        return level, ""

    def format(self, value: Value) -> float | str | None:
        return float(str(np.float32(value))) if isinstance(value, float) else value

    def to_frame(self, value: Any, instruments: Sequence[str]) -> Float64:
        return np.array([value])

    def from_frame(self, frame: Float32, sounding: bool, instruments: Sequence[str]) -> Value:
        return shortest_decimal(frame[0], self.name)


def frame_notes(
    notes: NDArray[Any],
    instrument: int,
    instruments: int,
    frames: int,
    hop: int,
    automation: Automation | None = None,
) -> FrameNotes:
    """Return the note at each frame of a clip.

    Args:
        notes: integers [n, 4]: onset and offset in samples, MIDI pitch, velocity; in order, monophonic.
        instrument: index of the clip's instrument, 0 <= instrument < instruments.
        instruments: number of instruments I.
        frames: number of frames T.
        hop: samples between frames.
        automation: expression inside the notes; its instruments replace `instrument`.

    Raises:
        ValueError: notes overlap, are out of order or empty, or `instrument` is out of range.
    """
    onset, offset, pitch, velocity = np.asarray(notes).reshape(-1, 4).T
    if np.any(onset >= offset) or np.any(offset[:-1] > onset[1:]):
        raise ValueError("notes must be in order, not empty, and must not overlap")
    if not 0 <= instrument < instruments:
        raise ValueError(f"instrument must be in 0..{instruments - 1}, got {instrument}")
    # promise: frame-i-looks-sample-3
    samples = np.arange(frames, dtype=np.int64) * hop
    # Index of the note that started last, -1 before the first; from its offset on there is a rest.
    # promise: frame-i-looks-sample
    latest = np.searchsorted(onset, samples, side="right") - 1
    sounding = latest >= 0
    # promise: frame-i-looks-sample-2
    sounding[sounding] = samples[sounding] < offset[latest[sounding]]
    seen = np.zeros((2, frames), np.int64)
    seen[:, sounding] = pitch[latest[sounding]], velocity[latest[sounding]]
    if automation is None:
        still, players = np.zeros(frames), np.full(frames, instrument)
        return FrameNotes(sounding, seen[0], seen[1], still, still + 1, players, instruments)
    block = np.minimum(samples // BLOCK, len(automation.level) - 1)
    players = automation.instruments[np.maximum(latest, 0)]
    return FrameNotes(
        sounding,
        seen[0],
        automation.level[block] * MAX_VELOCITY,
        automation.bend[block],
        automation.brightness[block],
        players,
        instruments,
    )


def note_points(notes: Sequence[Sequence[int]], of_note: Callable[[int, int], Value], rest: Value) -> Points:
    """Return the points of a step curve: `of_note(pitch, velocity)` during notes, `rest` elsewhere."""
    points: list[tuple[int, Value]] = [(0, rest)]
    for onset, offset, pitch, velocity in notes:
        if points[-1][0] == onset:  # the rest before it has no length
            points.pop()
        points += [(onset, of_note(pitch, velocity)), (offset, rest)]
    return tuple(points)


def parse_number(value: Any, what: str) -> float:
    """Return a written number as a float; see `parse_decimal`."""
    return float(parse_decimal(value, what))


def parse_decimal(value: Any, what: str) -> Decimal:
    """Return exactly the number that was written: 0.1 is a tenth, not the nearest binary fraction.

    Raises:
        UserError: not a finite number; the message names `what` it must be.
    """
    fault = UserError(f"{what} must be a number, got {abbreviate(value)}")
    if isinstance(value, bool) or not isinstance(value, (Real, Decimal)):
        raise fault
    try:
        if isinstance(value, Rational):
            exact = Decimal(int(value.numerator)) / Decimal(int(value.denominator))
        else:
            exact = value if isinstance(value, Decimal) else Decimal(repr(float(value)))
    except (InvalidOperation, OverflowError):
        raise fault from None
    if not exact.is_finite():
        raise fault
    return exact


def shortest_decimal(value: np.float32, what: str) -> float | None:
    """Return the shortest decimal that rounds to the same float32, None for UNCONDITIONED.

    Raises:
        UserError: outside 0..1 and not UNCONDITIONED.
    """
    if value == UNCONDITIONED:
        return None
    if not 0 <= value <= 1:
        raise UserError(f"{what} must be in 0..1, or -1 for unconditioned; got {value:g}")
    return float(str(value))


def abbreviate(value: Any) -> str:
    """Return a value for a message, cut to 40 characters."""
    text = str(value) if isinstance(value, (Real, Decimal)) and not isinstance(value, bool) else repr(value)
    return text if len(text) <= 40 else f"{text[:37]}..."

"""Interface of a control feature: computed from notes or measured from audio, drawn as curves, given to networks.

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
        brightness: opening of the filter, 0..1, float64 [T]; 1 (open) without automation.
        instrument: index of the instrument, int64 [T]; in rests that of the note before, at the start of the first.
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
        """Return the feature of a rendered clip, [T] or [R, T], from the note at each frame.

        Raises:
            NotImplementedError: the feature is not of exact origin (the base class).
        """
        raise NotImplementedError(self.name)

    def from_descriptor(self, values: Float32) -> NDArray[Any]:
        """Return the feature, [T], from the `descriptor` [T] measured in a clip's audio, NaN where undefined.

        Raises:
            NotImplementedError: the feature has no descriptor (the base class).
        """
        raise NotImplementedError(self.name)

    @abstractmethod
    def is_invalid(self, arrays: Mapping[str, NDArray[Any]]) -> bool:
        """Return whether a stored clip holds values of this feature that no clip can have.

        `arrays` are all features of the clip by name; some features are checked against `velocity`.
        """

    def from_notes(self, notes: Sequence[Sequence[int]], instrument: str | None) -> Points:
        """Return the points of the step curve that notes give; empty if they do not give this feature (the base class).

        Args:
            notes: onset and offset in samples, MIDI pitch, velocity; in order, monophonic.
            instrument: name of the instrument, None for any.
        """
        return ()

    @abstractmethod
    def parse(self, value: Any) -> tuple[Value, str]:
        """Return the point value of a value as written in a curve file, and a notice if it was changed (else empty).

        Raises:
            UserError: the value is invalid; the message does not say where in the file it is.
        """

    def announce(self, written: Sequence[Any]) -> str:
        """Return a notice about how the written values of one curve are read; empty if unambiguous (the base class)."""
        return ""

    def format(self, value: Value) -> float | str | None:
        """Return the most readable form of a point value that `parse` reads as that value; here the value itself."""
        return value

    def rows(self, instruments: int) -> int:
        """Return the number of rows R in a dataset of I instruments; 1 in the base class."""
        return 1

    def shape(self, frames: int, instruments: int) -> tuple[int, ...]:
        """Return the stored shape of a clip: (frames,) for a feature of one row, else (R, frames)."""
        # promise: class-entry-shards-their
        return (frames,) if self.one_row else (self.rows(instruments), frames)

    @abstractmethod
    def to_frame(self, value: Any, instruments: Sequence[str]) -> Float64:
        """Return the values of all rows, [R], at a frame with the point value `value`, which is not None.

        Raises:
            UserError: `value` is an instrument that is not in `instruments`, the names of the dataset's.
        """

    @abstractmethod
    def from_frame(self, frame: Float32, sounding: bool, instruments: Sequence[str]) -> Value:
        """Return the point value of a frame, float32 [R], at which a note sounds or not; None if unconditioned.

        The inverse of `to_frame`; `instruments` are the names of the dataset's.

        Raises:
            UserError: no point value gives this frame.
        """

    def quantize(self, frames: Float64) -> Float64:
        """Return interpolated frames [R, T] rounded to values that occur in data; unchanged in the base class."""
        return frames


class LevelControl(Control):
    """A control of one row whose point values and stored values are the same numbers in 0..1."""

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
        automation: expression inside the notes; its levels replace the velocities, its instruments `instrument`.

    Raises:
        ValueError: notes overlap, are out of order or have no length, or `instrument` is out of range.
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
    """Return the points of a step curve: `of_note(pitch, velocity)` during notes, `rest` elsewhere, from sample 0.

    Rows of `notes` are onset and offset in samples, MIDI pitch and velocity; in order, monophonic.
    """
    points: list[tuple[int, Value]] = [(0, rest)]
    for onset, offset, pitch, velocity in notes:
        if points[-1][0] == onset:  # the rest before it has no length
            points.pop()
        points += [(onset, of_note(pitch, velocity)), (offset, rest)]
    return tuple(points)


def parse_number(value: Any, what: str) -> float:
    """Return a written number as a float; `what` names it in errors.

    Raises:
        UserError: not a finite number.
    """
    return float(parse_decimal(value, what))


def parse_decimal(value: Any, what: str) -> Decimal:
    """Return a number as the decimal that was written: the float 0.1 gives a tenth, not its binary approximation.

    Fractions without a finite decimal are rounded to 28 digits.

    Raises:
        UserError: not a number (a bool is none), or not finite; the message says that `what` must be a number.
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
    """Return the float of the fewest digits that rounds to the float32 `value`; None for UNCONDITIONED.

    Raises:
        UserError: outside 0..1 and not UNCONDITIONED; `what` names the value.
    """
    if value == UNCONDITIONED:
        return None
    if not 0 <= value <= 1:
        raise UserError(f"{what} must be in 0..1, or -1 for unconditioned; got {value:g}")
    return float(str(value))


def abbreviate(value: Any) -> str:
    """Return the text of a value for a message, at most 40 characters; strings and bools as in Python source."""
    text = str(value) if isinstance(value, (Real, Decimal)) and not isinstance(value, bool) else repr(value)
    return text if len(text) <= 40 else f"{text[:37]}..."

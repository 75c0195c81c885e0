"""What a control feature is: computed from notes, drawn by people, told to networks.

T frames, R rows of a feature, I instruments. Frame i looks at sample i * hop; a note covers the samples
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

from data_specs.errors import UserError

UNCONDITIONED = -1.0  # a feature that is this value everywhere says nothing to the model

Value: TypeAlias = float | str | None
Points: TypeAlias = tuple[tuple[int, Value], ...]  # (sample, value)
Interpolation = Literal["linear", "step"]
Float32 = NDArray[np.float32]


@dataclass(frozen=True)
class FrameNotes:
    """One clip, looked at once a frame.

    Attributes:
        sounding: bool [T], whether a note sounds.
        pitch: MIDI pitch of the note, integers [T]; of no meaning in rests.
        velocity: MIDI velocity of the note, integers [T]; of no meaning in rests.
        instrument: index of the clip's instrument.
        instruments: number of instruments I.
    """

    sounding: NDArray[np.bool_]
    pitch: NDArray[Any]
    velocity: NDArray[Any]
    instrument: int
    instruments: int


class Control(ABC):
    """One control feature. A feature is one subclass and one line in `CONTROLS`."""

    name: ClassVar[str]
    default: Interpolation = "step"  # of curves that do not say
    interpolations: tuple[Interpolation, ...] = ("linear", "step")
    one_row: bool = True  # stored as [T], else as [R, T]
    resolution: ClassVar[int] = 12  # triangular functions that encode a row for a network

    @abstractmethod
    def from_frames(self, played: FrameNotes) -> NDArray[Any]:
        """What the feature is in a clip, [T] or [R, T]."""

    @abstractmethod
    def faulty(self, arrays: Mapping[str, NDArray[Any]]) -> bool:
        """Whether a stored clip, arrays by feature, holds values of this feature that no clip has."""

    def of_notes(self, notes: Sequence[Sequence[int]], instrument: str | None) -> Points:
        """Points of the step curve that gives the same for the same notes; none where it cannot be drawn.

        Args:
            notes: onset and offset in samples, MIDI pitch, velocity; one note at a time.
            instrument: name of the instrument, None for any.
        """
        return ()

    @abstractmethod
    def read(self, value: Any) -> tuple[Value, str]:
        """A written value -> the value of a point, and a notice where it had to be changed (else empty).

        Raises:
            UserError: what is wrong with the value, without where it stands.
        """

    def write(self, value: Value) -> float | str | None:
        """The inverse of `read`, in the form that is easiest to read."""
        return value

    def rows(self, instruments: int) -> int:
        """Number of rows R in a dataset of I instruments."""
        return 1

    def shape(self, frames: int, instruments: int) -> tuple[int, ...]:
        """The stored shape, [T] or [R, T]."""
        # promise: class-entry-shards-their
        return (frames,) if self.one_row else (self.rows(instruments), frames)

    @abstractmethod
    def column(self, value: Any, instruments: Sequence[str]) -> NDArray[np.float64]:
        """A point's value -> one frame [R].

        Raises:
            UserError: a value that this dataset does not know.
        """

    @abstractmethod
    def value(self, column: Float32, sounding: bool, instruments: Sequence[str]) -> Value:
        """One frame [R], in which a note sounds or does not -> a point's value; the inverse of `column`.

        Raises:
            UserError: a frame that no point can stand for.
        """

    def settle(self, frames: NDArray[np.float64]) -> NDArray[np.float64]:
        """Interpolated frames [R, T] -> values that occur in data."""
        return frames


def frame_notes(notes: NDArray[Any], instrument: int, instruments: int, frames: int, hop: int) -> FrameNotes:
    """Notes of a clip as its frames see them.

    Args:
        notes: integers [n, 4]: onset and offset in samples, MIDI pitch, velocity; in order, one note at a time.
        instrument: index of the clip's instrument, 0 <= instrument < instruments.
        instruments: number of instruments I.
        frames: number of frames T.
        hop: samples between frames.

    Raises:
        ValueError: notes overlap or are not in order, or there is no such instrument.
    """
    onset, offset, pitch, velocity = np.asarray(notes).reshape(-1, 4).T
    if np.any(onset >= offset) or np.any(offset[:-1] > onset[1:]):
        raise ValueError("notes must be in order, each of some length, and must not overlap")
    if not 0 <= instrument < instruments:
        raise ValueError(f"instrument {instrument} is not one of {instruments}")
    # promise: frame-i-looks-sample-3
    samples = np.arange(frames, dtype=np.int64) * hop
    # The note that started last, -1 before the first; it sounds until its own offset, then there is a rest.
    # promise: frame-i-looks-sample
    latest = np.searchsorted(onset, samples, side="right") - 1
    sounding = latest >= 0
    # promise: frame-i-looks-sample-2
    sounding[sounding] = samples[sounding] < offset[latest[sounding]]
    seen = np.zeros((2, frames), np.int64)
    seen[:, sounding] = pitch[latest[sounding]], velocity[latest[sounding]]
    return FrameNotes(sounding, seen[0], seen[1], instrument, instruments)


def note_points(notes: Sequence[Sequence[int]], of_note: Callable[[int, int], Value], rest: Value) -> Points:
    """Points of a step curve: `of_note(pitch, velocity)` while a note sounds, `rest` where none does."""
    points: list[tuple[int, Value]] = [(0, rest)]
    for onset, offset, pitch, velocity in notes:
        if points[-1][0] == onset:  # the rest before it has no length
            points.pop()
        points += [(onset, of_note(pitch, velocity)), (offset, rest)]
    return tuple(points)


def number(value: Any, what: str) -> float:
    """A written number as a float; see `exact_number`."""
    return float(exact_number(value, what))


def exact_number(value: Any, what: str) -> Decimal:
    """Exactly what was written: 0.1 is a tenth, not the binary fraction next to it.

    Raises:
        UserError: no number, or not a finite one; `what` it should be is named.
    """
    if isinstance(value, bool) or not isinstance(value, (Real, Decimal)):
        raise UserError(f"{shown(value)} is not {what}")
    try:
        if isinstance(value, Rational):
            exact = Decimal(int(value.numerator)) / Decimal(int(value.denominator))
        else:
            exact = value if isinstance(value, Decimal) else Decimal(repr(float(value)))
    except (InvalidOperation, OverflowError):
        raise UserError(f"{shown(value)} is not {what}") from None
    if not exact.is_finite():
        raise UserError(f"{shown(value)} is not {what}")
    return exact


def shortest(value: np.float32, what: str) -> float | None:
    """The shortest decimal that gives the same float32 again; None for free.

    Raises:
        UserError: outside 0..1 and not free.
    """
    if value == UNCONDITIONED:
        return None
    if not 0 <= value <= 1:
        raise UserError(f"{what} {value:g} is neither in 0..1 nor free (-1)")
    return float(str(value))


def shown(value: Any) -> str:
    """A value for a message, cut to 40 characters."""
    text = str(value) if isinstance(value, (Real, Decimal)) and not isinstance(value, bool) else repr(value)
    return text if len(text) <= 40 else f"{text[:37]}..."

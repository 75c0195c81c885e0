"""Songs: notes of a MIDI file as arrays, in ticks and in seconds."""

import json
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Ticks = NDArray[np.int64]
Seconds = NDArray[np.float64]
Bytes7 = NDArray[np.int16]  # 0..127

RULES = 2  # version of the reading rules; raised when files that are not plain give other notes
NEVER = -1  # end tick of a note without note-off

_DEFAULT_TEMPO = 500_000  # microseconds per quarter note
_LENGTH = struct.Struct("<I")
_COLUMNS = (
    ("start_tick", np.dtype("<i8")),
    ("end_tick", np.dtype("<i8")),
    ("start_s", np.dtype("<f8")),
    ("end_s", np.dtype("<f8")),
    ("pitch", np.dtype("<i2")),
    ("velocity", np.dtype("<i2")),
)


class TempoMap:
    """Convert ticks to seconds under the tempo events of a file.

    The last event at a tick applies, ordered by track and by position within the track. Events of 0 microseconds are
    ignored.

    Args:
        tempos: (tick, microseconds per quarter note) in file order.
        ticks_per_quarter: the file's division.
    """

    def __init__(self, tempos: Sequence[tuple[int, int]] | np.ndarray, ticks_per_quarter: int) -> None:
        events = np.asarray(tempos, dtype=np.int64).reshape(-1, 2)
        events = events[events[:, 1] > 0]
        events = events[np.argsort(events[:, 0], kind="stable")]
        is_last = np.append(events[1:, 0] != events[:-1, 0], True)[: len(events)]
        events = np.concatenate([[[0, _DEFAULT_TEMPO]], events[is_last]])
        if len(events) > 1 and events[1, 0] == 0:
            events = events[1:]
        self.ticks = events[:, 0]
        self.tick_s = events[:, 1] / (1e6 * ticks_per_quarter)
        self.seconds = np.concatenate([[0.0], np.cumsum(np.diff(self.ticks) * self.tick_s[:-1])])

    def __call__(self, ticks: np.ndarray) -> np.ndarray:
        """Convert ticks int64 [n] to seconds float64 [n]."""
        at = np.searchsorted(self.ticks, ticks, side="right") - 1
        return self.seconds[at] + (ticks - self.ticks[at]) * self.tick_s[at]


class FrameClock:
    """Convert ticks to seconds under an SMPTE time division, where tempo events do not apply."""

    def __init__(self, tick_s: Fraction) -> None:
        self.tick_s = tick_s

    def __call__(self, ticks: np.ndarray) -> np.ndarray:
        """Convert ticks int64 [n] to seconds float64 [n]."""
        return ticks * self.tick_s.numerator / self.tick_s.denominator


class Part(NamedTuple):
    """Notes of one channel and program within one track chunk."""

    program: int
    is_drum: bool
    name: str
    clock: int  # row of RawSong.clocks


class RawSong(NamedTuple):
    """Notes as stored in a file, in any order: int64 columns [n]; `part` is a row of `parts`, `end_tick` may be NEVER.

    Parts are in the order of (track chunk, channel, program). `moves` are (tick, controller, value) of the channel of
    each part in order, where the reader keeps them.
    """

    parts: list[Part]
    clocks: list[TempoMap | FrameClock]
    part: Ticks
    start_tick: Ticks
    end_tick: Ticks
    pitch: Ticks
    velocity: Ticks
    repaired: tuple[str, ...] = ()
    rules: int = 1
    moves: Sequence[Sequence[tuple[int, int, int]]] = ()


@dataclass(frozen=True, eq=False)
class Track:
    """Notes of one channel and program of one track chunk.

    `index` counts the tracks with notes of a song in the order of (track chunk, channel, program). Notes are sorted by
    start tick, pitch, end tick and velocity, and every note ends after its start.
    """

    index: int
    program: int  # General MIDI, 0..127
    is_drum: bool
    name: str
    start_tick: Ticks = field(repr=False)  # [n]
    end_tick: Ticks = field(repr=False)  # [n]
    start_s: Seconds = field(repr=False)  # [n], seconds from the beginning of the song
    end_s: Seconds = field(repr=False)  # [n]
    pitch: Bytes7 = field(repr=False)  # [n]
    velocity: Bytes7 = field(repr=False)  # [n], 1..127


@dataclass(frozen=True, eq=False)
class Song:
    """The tracks with notes of a MIDI file, and the end of the last note in seconds.

    `repaired` names the kinds of damage found and bypassed, in alphabetical order; empty for a well-formed file.
    `rules` is the version of the reading rules that the notes depend on: RULES, or 1 for plain files, which read alike
    under all versions.
    """

    tracks: tuple[Track, ...]
    end_s: float
    repaired: tuple[str, ...] = ()
    rules: int = 1

    def pack(self) -> bytes:
        """Serialize the song: length of a JSON header, the header, then the columns."""
        tracks = [[t.index, t.program, t.is_drum, t.name, len(t.pitch)] for t in self.tracks]
        about = {"end_s": self.end_s, "repaired": self.repaired, "rules": self.rules, "tracks": tracks}
        header = json.dumps(about).encode()
        header += b" " * (-(len(header) + _LENGTH.size) % 8)  # aligns the columns
        columns = [
            np.concatenate([getattr(track, name) for track in self.tracks]).astype(dtype, copy=False).tobytes()
            for name, dtype in _COLUMNS
        ]
        return b"".join([_LENGTH.pack(len(header)), header, *columns])

    @classmethod
    def unpack(cls, packed: bytes) -> "Song":
        """Deserialize a packed song without unpickling.

        Raises:
            ValueError: the bytes are not a packed song.
        """
        try:
            (length,) = _LENGTH.unpack_from(packed)
            header = json.loads(packed[_LENGTH.size : _LENGTH.size + length])
            counts = [int(entry[4]) for entry in header["tracks"]]
            if min(counts) < 0:
                raise ValueError("negative track length")
            columns = _read_columns(packed, _LENGTH.size + length, sum(counts))
            ends = np.cumsum(counts).tolist()
            tracks = []
            for (index, program, is_drum, name, count), end in zip(header["tracks"], ends, strict=True):
                part = {key: column[end - count : end] for key, column in columns.items()}
                tracks.append(Track(int(index), int(program), bool(is_drum), str(name), **part))
            repaired = tuple(str(kind) for kind in header["repaired"])
            return cls(tuple(tracks), float(header["end_s"]), repaired, int(header["rules"]))
        except (struct.error, KeyError, TypeError, IndexError, ValueError) as error:
            raise ValueError(f"not a packed song ({error})") from error


def _read_columns(packed: bytes, offset: int, count: int) -> dict[str, np.ndarray]:
    if len(packed) != offset + count * sum(dtype.itemsize for _, dtype in _COLUMNS):
        raise ValueError("length does not match the header")
    columns = {}
    for name, dtype in _COLUMNS:
        columns[name] = np.frombuffer(packed, dtype, count, offset)
        offset += count * dtype.itemsize
    return columns

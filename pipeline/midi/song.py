"""Songs: the notes of a MIDI file as arrays, with times in ticks and in seconds."""

import json
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import NamedTuple

import numpy as np

from data_specs.arrays import Float64, Int16, Int64

RULES = 2  # version of the reading rules: to be raised when a file that is not plain gives other notes than before
NEVER = -1  # end tick of a note without note-off

_DEFAULT_TEMPO = 500_000  # microseconds per quarter note
_LENGTH = struct.Struct("<I")
# The columns of a packed song: the arrays of a track, in the order of its fields.
_COLUMNS = {"start_tick": "<i8", "end_tick": "<i8", "start_s": "<f8", "end_s": "<f8", "pitch": "<i2", "velocity": "<i2"}
_ROW_BYTES = sum(np.dtype(dtype).itemsize for dtype in _COLUMNS.values())


class TempoMap:
    """Conversion of ticks to seconds by the tempo events of a file.

    Before the first event a quarter note has 500 000 microseconds. Of several events at one tick the last one in the
    order given applies. Events of 0 microseconds are ignored.

    Args:
        tempos: (tick, microseconds per quarter note), sorted by track, then by position in the track.
        ticks_per_quarter: ticks per quarter note, from the header of the file.
    """

    def __init__(self, tempos: Sequence[tuple[int, int]] | Int64, ticks_per_quarter: int) -> None:
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

    def __call__(self, ticks: Int64) -> Float64:
        """Return the times, float64 [n], in seconds from tick 0, of `ticks`, int64 [n]."""
        at = np.searchsorted(self.ticks, ticks, side="right") - 1
        return self.seconds[at] + (ticks - self.ticks[at]) * self.tick_s[at]


class FrameClock:
    """Conversion of ticks to seconds under an SMPTE time division, where tempo events do not apply.

    `tick_s` is the length of a tick in seconds.
    """

    def __init__(self, tick_s: Fraction) -> None:
        self.tick_s = tick_s

    def __call__(self, ticks: Int64) -> Float64:
        """Return the times, float64 [n], in seconds from tick 0, of `ticks`, int64 [n]."""
        return ticks * self.tick_s.numerator / self.tick_s.denominator


class Part(NamedTuple):
    """Notes of one channel and program within one track chunk."""

    program: int
    is_drum: bool
    name: str
    clock: int  # index in RawSong.clocks


class RawSong(NamedTuple):
    """Notes as stored in a file, in any order: part, start_tick, end_tick, pitch and velocity are int64 columns [n].

    Attributes:
        parts: parts sorted by track chunk, channel and program.
        clocks: conversions from ticks to seconds.
        part: index in `parts` of each note.
        end_tick: NEVER for a note without note-off.
        repaired, rules: as in Song.
        moves: for each part the (tick, controller or BEND, value) of its channel in time order; empty if the reader
            does not keep them.
    """

    parts: list[Part]
    clocks: list[TempoMap | FrameClock]
    part: Int64
    start_tick: Int64
    end_tick: Int64
    pitch: Int64
    velocity: Int64
    repaired: tuple[str, ...] = ()
    rules: int = 1
    moves: Sequence[Sequence[tuple[int, int, int]]] = ()


@dataclass(frozen=True, eq=False)
class Track:
    """Notes of one channel and program of one track chunk.

    `index` is the number of the track in its song, from 0, in the order of track chunk, channel and program. Notes are
    sorted by start tick, pitch, end tick and velocity. Every note ends after its start. `name` is that of the track
    chunk.
    """

    index: int
    program: int  # General MIDI, 0..127
    is_drum: bool
    name: str
    start_tick: Int64 = field(repr=False)  # [n]
    end_tick: Int64 = field(repr=False)  # [n]
    start_s: Float64 = field(repr=False)  # [n], seconds from the beginning of the song
    end_s: Float64 = field(repr=False)  # [n]
    pitch: Int16 = field(repr=False)  # [n]
    velocity: Int16 = field(repr=False)  # [n], 1..127


@dataclass(frozen=True, eq=False)
class Song:
    """The tracks with notes of a MIDI file, and the time in seconds at which the last note ends.

    `repaired` names the kinds of damage that were bypassed, in alphabetical order; it is empty for a well-formed file.
    `rules` is the version of the reading rules that the notes depend on: RULES, or 1 for a plain file, which gives the
    same notes under all versions.
    """

    tracks: tuple[Track, ...]
    end_s: float
    repaired: tuple[str, ...] = ()
    rules: int = 1

    def pack(self) -> bytes:
        """Return the song as bytes: length of a header as uint32, the header as JSON, then each column of all tracks.

        Numbers are little-endian. The song must have at least one track.
        """
        tracks = [[t.index, t.program, t.is_drum, t.name, len(t.pitch)] for t in self.tracks]
        about = {"end_s": self.end_s, "repaired": self.repaired, "rules": self.rules, "tracks": tracks}
        header = json.dumps(about).encode()
        header += b" " * (-(len(header) + _LENGTH.size) % 8)  # aligns the columns
        columns = [
            np.concatenate([getattr(track, name) for track in self.tracks]).astype(dtype, copy=False).tobytes()
            for name, dtype in _COLUMNS.items()
        ]
        return b"".join([_LENGTH.pack(len(header)), header, *columns])

    @classmethod
    def unpack(cls, packed: bytes) -> "Song":
        """Return the song in the bytes of `pack`, with read-only arrays. Nothing is unpickled.

        Raises:
            ValueError: the bytes are not a packed song.
        """
        try:
            (length,) = _LENGTH.unpack_from(packed)
            offset = _LENGTH.size + length
            header = json.loads(packed[_LENGTH.size : offset])
            counts = [int(entry[4]) for entry in header["tracks"]]
            total = sum(counts)
            if min(counts) < 0 or len(packed) != offset + total * _ROW_BYTES:
                raise ValueError("lengths do not match the header")
            columns = []
            for dtype in _COLUMNS.values():
                columns.append(np.frombuffer(packed, dtype, total, offset))
                offset += columns[-1].nbytes
            tracks = []
            for (index, program, is_drum, name, count), end in zip(header["tracks"], np.cumsum(counts), strict=True):
                arrays = (column[end - count : end] for column in columns)
                tracks.append(Track(int(index), int(program), bool(is_drum), str(name), *arrays))
            repaired = tuple(str(kind) for kind in header["repaired"])
            return cls(tuple(tracks), float(header["end_s"]), repaired, int(header["rules"]))
        except (struct.error, KeyError, TypeError, IndexError, ValueError) as error:
            raise ValueError(f"not a packed song ({error})") from error

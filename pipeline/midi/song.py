"""What a MIDI file says, as arrays: tracks of notes in ticks and seconds, and their form as bytes."""

import json
import struct
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Ticks = NDArray[np.int64]
Seconds = NDArray[np.float64]
Bytes7 = NDArray[np.int16]  # 0..127

NEVER = -1  # end of a note that got no note-off

_LENGTH = struct.Struct("<I")
_COLUMNS = (
    ("start_tick", np.dtype("<i8")),
    ("end_tick", np.dtype("<i8")),
    ("start_s", np.dtype("<f8")),
    ("end_s", np.dtype("<f8")),
    ("pitch", np.dtype("<i2")),
    ("velocity", np.dtype("<i2")),
)


class Notes(NamedTuple):
    """The notes of one track, each with its own note-off's tick or NEVER: int64 columns of shape [n]."""

    program: int
    is_drum: bool
    name: str
    start_tick: np.ndarray
    end_tick: np.ndarray
    pitch: np.ndarray
    velocity: np.ndarray


@dataclass(frozen=True, eq=False)
class Track:
    """The notes of one channel and program of one track chunk, `n` of them.

    `index` numbers the tracks of a song by (track chunk, channel, program), counting only those that have notes.
    Notes are sorted by start tick, then pitch, end tick and velocity, which leaves no ties but between equal notes.
    Every note ends after it starts.
    """

    index: int
    program: int  # General MIDI, 0..127
    is_drum: bool
    name: str
    start_tick: Ticks = field(repr=False)  # [n]
    end_tick: Ticks = field(repr=False)  # [n]
    start_s: Seconds = field(repr=False)  # [n], float64 seconds from the beginning of the song
    end_s: Seconds = field(repr=False)  # [n]
    pitch: Bytes7 = field(repr=False)  # [n]
    velocity: Bytes7 = field(repr=False)  # [n], 1..127


@dataclass(frozen=True, eq=False)
class Song:
    """The tracks of a MIDI file that have notes, and the second at which the last note ends.

    `mended` names the kinds of damage that were read around, in alphabetical order; empty for a sound file.
    """

    tracks: tuple[Track, ...]
    end_s: float
    mended: tuple[str, ...] = ()

    def pack(self) -> bytes:
        """The song as bytes, for another process: a JSON head with its length before it, then the columns."""
        tracks = [[t.index, t.program, t.is_drum, t.name, len(t.pitch)] for t in self.tracks]
        head = json.dumps({"end_s": self.end_s, "mended": self.mended, "tracks": tracks}).encode()
        head += b" " * (-(len(head) + _LENGTH.size) % 8)  # so that the columns are aligned
        columns = [
            np.concatenate([getattr(track, name) for track in self.tracks]).astype(dtype, copy=False).tobytes()
            for name, dtype in _COLUMNS
        ]
        return b"".join([_LENGTH.pack(len(head)), head, *columns])

    @classmethod
    def unpack(cls, packed: bytes) -> "Song":
        """The song that `pack` was called on. Nothing is unpickled.

        Raises:
            ValueError: the bytes are not a packed song.
        """
        try:
            (length,) = _LENGTH.unpack_from(packed)
            head = json.loads(packed[_LENGTH.size : _LENGTH.size + length])
            counts = [int(entry[4]) for entry in head["tracks"]]
            if min(counts) < 0:
                raise ValueError("a track of negative length")
            columns = _read_columns(packed, _LENGTH.size + length, sum(counts))
            ends = np.cumsum(counts).tolist()
            tracks = []
            for (index, program, is_drum, name, count), end in zip(head["tracks"], ends, strict=True):
                part = {key: column[end - count : end] for key, column in columns.items()}
                tracks.append(Track(int(index), int(program), bool(is_drum), str(name), **part))
            return cls(tuple(tracks), float(head["end_s"]), tuple(str(fault) for fault in head["mended"]))
        except (struct.error, KeyError, TypeError, IndexError, ValueError) as error:
            raise ValueError(f"not a packed song ({error})") from error


def _read_columns(packed: bytes, offset: int, count: int) -> dict[str, np.ndarray]:
    if len(packed) != offset + count * sum(dtype.itemsize for _, dtype in _COLUMNS):
        raise ValueError("its length does not match its head")
    columns = {}
    for name, dtype in _COLUMNS:
        columns[name] = np.frombuffer(packed, dtype, count, offset)
        offset += count * dtype.itemsize
    return columns

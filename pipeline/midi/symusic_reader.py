"""Fast reading of well-formed MIDI files by symusic.

symusic wraps ticks at 32 bits, takes an F7 event for a single byte and a system event for a running status, reads past
the end of a short tempo event and drops notes without a note-off. Therefore it only receives files that follow the
standard's grammar to the letter, and only complete results are used: `pipeline.midi.smf` gives the same notes.
"""

import re
import struct
from typing import TYPE_CHECKING

import numpy as np

from pipeline.midi.smf import SmfIndex, variable_length
from pipeline.midi.song import Part, RawSong, TempoMap

if TYPE_CHECKING:
    from data_specs.spec import Limits

_SMALLEST_EVENT = 2  # bytes: a delta time and a data byte under running status
# Every track gets note-offs behind its end: a note that ends there has no note-off of its own.
_LATE_TICK, _LATE = 4 * (2**28 - 1), 3 * b"\xff\xff\xff\x7f\xff\x01\x00" + b"\xff\xff\xff\x7f"
_NOTE_OFFS = tuple(bytes([0x80 | channel]) + b"\x00".join(bytes([p, 0]) for p in range(128)) for channel in range(16))
_END_OF_TRACK = b"\x00\xff\x2f\x00"
# The standard's grammar: delta times of at most four bytes, channel events with their runs.
_DELTA = rb"[\x80-\xff]{0,3}+[\x00-\x7f]"
_CHANNEL_EVENTS = re.compile(
    rb"(?:%(delta)b[\x80-\xbf\xe0-\xef][\x00-\x7f]{2}(?:%(delta)b[\x00-\x7f]{2})*+"
    rb"|%(delta)b[\xc0-\xdf][\x00-\x7f](?:%(delta)b[\x00-\x7f])*+)*+" % {b"delta": _DELTA}
)
_OTHER_EVENT = re.compile(_DELTA + rb"(?:\xff([\x00-\x7f])|\xf0)")


def read_notes(content: bytes, index: SmfIndex, limits: "Limits") -> RawSong | None:
    """Read the notes of a well-formed file.

    Returns:
        None if the file is unusual or damaged, or if the result would be incomplete: notes without a note-off, several
        tempos at one tick, a track name that is not UTF-8.
    """
    tracks = _plain_tracks(content, index, limits)
    if tracks is None:
        return None
    import symusic

    try:
        score = symusic.Score.from_midi(_with_late_note_offs(tracks, index))
    except MemoryError:
        raise
    except Exception:  # symusic raises several types, none of its own
        return None
    if any("\ufffd" in track.name for track in score.tracks):  # not UTF-8
        return None
    tempos = score.tempos.numpy()
    events = np.stack([tempos["time"], tempos["mspq"]], axis=1).astype(np.int64)
    if ((np.diff(events[:, 0]) == 0) & (np.diff(events[:, 1]) != 0)).any():
        return None
    notes = [track.notes.numpy() for track in score.tracks]
    start, length, pitch, velocity = (
        np.concatenate([np.zeros(0, np.int64), *(columns[name] for columns in notes)])
        for name in ("time", "duration", "pitch", "velocity")
    )
    if (start + length >= _LATE_TICK).any():
        return None
    part = np.repeat(np.arange(len(notes)), [len(columns["time"]) for columns in notes])
    parts = [Part(track.program, track.is_drum, track.name, 0) for track in score.tracks]
    clock = TempoMap(events, index.ticks_per_quarter)
    return RawSong(parts, [clock], part, start, start + length, pitch, velocity)


def _plain_tracks(content: bytes, index: SmfIndex, limits: "Limits") -> list[bytes] | None:
    """Return the events of each track without its end; None if the file is unusual or may exceed the limits."""
    if index.format > 1 or index.tick_s is not None or index.repaired or limits.largest_tick >= _LATE_TICK:
        return None
    if sum(end - begin for begin, end in index.tracks) > _SMALLEST_EVENT * limits.events or not _ticks_fit(content):
        return None
    tracks = []
    for begin, end in index.tracks:
        stop = _end_of_events(content, begin, end)
        if stop is None:
            return None
        tracks.append(content[begin:stop])
    return tracks


def _ticks_fit(content: bytes) -> bool:
    """Whether no tick can reach `_LATE_TICK`, which leaves as many again before they wrap.

    The bound sums all bytes below 128, each with the bytes above 127 before it, as if each ended a delta time.
    """
    array = np.frombuffer(content, np.uint8)
    value = (array & 0x7F).astype(np.int64)
    high = array > 0x7F
    bound, ends = int(value[~high].sum()), ~high
    for shift in (1, 2, 3):
        ends = ends[1:] & high[:-shift]
        bound += int(value[:-shift][ends].sum()) << (7 * shift)
    return bound < _LATE_TICK


def _end_of_events(content: bytes, begin: int, end: int) -> int | None:
    """Return the position of a chunk's end-of-track event, or None if its events do not follow the standard's grammar:
    no system events but exclusive ones, no running status across these and meta events, tempos of three bytes."""
    position = begin
    while True:
        channel_events = _CHANNEL_EVENTS.match(content, position, end)
        assert channel_events  # matches the empty string
        position = channel_events.end()
        if position == end:
            return end
        other = _OTHER_EVENT.match(content, position, end)
        if not other:
            return None
        if other[1] == b"\x2f":
            return position
        try:
            length, position = variable_length(content, other.end())
        except IndexError:
            return None
        position += length
        if position > end or (other[1] == b"\x51" and length != 3):
            return None


def _with_late_note_offs(tracks: list[bytes], index: SmfIndex) -> bytes:
    """Return a file of these tracks with late note-offs for every channel that may have notes."""
    chunks = [struct.pack(">4sIHHH", b"MThd", 6, index.format, len(tracks), index.ticks_per_quarter)]
    for events in tracks:
        note_offs = [_NOTE_OFFS[channel] for channel in range(16) if 0x90 | channel in events]
        late = _LATE + b"\x00".join(note_offs) if note_offs else b""
        body = events + late + _END_OF_TRACK
        chunks += [b"MTrk", struct.pack(">I", len(body)), body]
    return b"".join(chunks)

"""Sound MIDI files, read by symusic.

A compiled reader in half a millisecond, but one that misreads what is unusual: its ticks wrap at 32 bits, it takes an
F7 event for a single byte and a system event for a running status, it reads past the end of a short tempo event, and
it drops notes without a note-off. So it is given only files that follow the standard's grammar to the letter, and its
answer is taken only where nothing is lost in it. There it says what `pipeline.midi.smf` would have said.
"""

import re
import struct
from typing import TYPE_CHECKING

import numpy as np

from pipeline.midi.smf import Layout, variable_length
from pipeline.midi.song import NEVER, Notes
from pipeline.midi.tempo import Clock, TempoMap

if TYPE_CHECKING:
    from data_specs.spec import Limits

_SMALLEST_EVENT = 2  # bytes: a delta time and a data byte under running status
# symusic drops notes without a note-off unseen. So each track is given note-offs behind its end, so late that no note
# of its own can end there: empty text events at the largest delta times, then note-offs, and one tick on, once more.
_LATE_TICKS, _LATE = 4 * (2**28 - 1), 3 * b"\xff\xff\xff\x7f\xff\x01\x00" + b"\xff\xff\xff\x7f"
_NOTE_OFFS = tuple(bytes([0x80 | channel]) + b"\x00".join(bytes([p, 0]) for p in range(128)) for channel in range(16))
_ROUNDS = 3  # as many notes of one key may be found to have no end before the file is left to the other reader
_END_OF_TRACK = b"\x00\xff\x2f\x00"
# A sound track by the grammar of the standard: delta times of at most four bytes, channel events with their runs.
_DELTA = rb"[\x80-\xff]{0,3}+[\x00-\x7f]"
_CHANNEL_EVENTS = re.compile(
    rb"(?:%(delta)b[\x80-\xbf\xe0-\xef][\x00-\x7f]{2}(?:%(delta)b[\x00-\x7f]{2})*+"
    rb"|%(delta)b[\xc0-\xdf][\x00-\x7f](?:%(delta)b[\x00-\x7f])*+)*+" % {b"delta": _DELTA}
)
_OTHER_EVENT = re.compile(_DELTA + rb"(?:\xff([\x00-\x7f])|\xf0)")


def read_plain(content: bytes, plan: Layout, limits: "Limits") -> list[tuple[Notes, Clock]] | None:
    """The notes of each track as symusic reads them; None where it must not or will not read the file, or where
    something would be lost: notes without a note-off, the order of tempo events, a name that is not UTF-8."""
    plain = _plain_events(content, plan, limits)
    if plain is None:
        return None
    import symusic

    file = _for_symusic(plain, plan)
    try:
        score = symusic.Score.from_midi(file)
    except MemoryError:
        raise
    except Exception:  # it raises several types, none of its own
        return None
    if any("\ufffd" in track.name for track in score.tracks):  # not UTF-8
        return None
    tempos = score.tempos.numpy()
    events = np.stack([tempos["time"], tempos["mspq"]], axis=1).astype(np.int64)
    if ((np.diff(events[:, 0]) == 0) & (np.diff(events[:, 1]) != 0)).any():
        return None
    clock = TempoMap(events, plan.ticks_per_quarter)
    tracks: list[tuple[Notes, Clock]] = []
    late_ticks: set[int] = set()
    for track in score.tracks:
        columns = {key: column.astype(np.int64) for key, column in track.notes.numpy().items()}
        ends = columns["time"] + columns["duration"]
        late = ends >= _LATE_TICKS
        late_ticks.update(ends[late].tolist())
        ends[late] = NEVER
        notes = Notes(
            track.program, track.is_drum, track.name, columns["time"], ends, columns["pitch"], columns["velocity"]
        )
        tracks.append((notes, clock))
    if any(tick + 1 in late_ticks for tick in late_ticks):  # the last round found notes: there may be more
        return None
    return tracks


def _plain_events(content: bytes, plan: Layout, limits: "Limits") -> list[bytes] | None:
    """The events of each track without its end, if symusic can be relied on: there is nothing odd in the file, and its
    size alone keeps it within the limits. Else None."""
    if plan.format > 1 or plan.tick_s is not None or plan.mended or limits.largest_tick >= _LATE_TICKS:
        return None
    if sum(end - begin for begin, end in plan.tracks) > _SMALLEST_EVENT * limits.events or not _ticks_fit(content):
        return None
    tracks = []
    for begin, end in plan.tracks:
        stop = _end_of_events(content, begin, end)
        if stop is None:
            return None
        tracks.append(content[begin:stop])
    return tracks


def _ticks_fit(content: bytes) -> bool:
    """Whether no tick can reach `_LATE_TICKS`, which leaves as many again before they wrap.

    The bound adds up all bytes below 128, each with the bytes above 127 before it, as if each ended a delta time.
    """
    array = np.frombuffer(content, np.uint8)
    value = (array & 0x7F).astype(np.int64)
    high = array > 0x7F
    bound, ends = int(value[~high].sum()), ~high
    for shift in (1, 2, 3):
        ends = ends[1:] & high[:-shift]
        bound += int(value[:-shift][ends].sum()) << (7 * shift)
    return bound < _LATE_TICKS


def _end_of_events(content: bytes, begin: int, end: int) -> int | None:
    """Where the events of a track chunk end (the position of its end-of-track event), if they follow the standard's
    grammar: no other system events than exclusive ones, no running status across these and meta events, tempos of three
    bytes. Else None."""
    position = begin
    while True:
        channel_events = _CHANNEL_EVENTS.match(content, position, end)
        assert channel_events  # it may be empty
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


def _for_symusic(tracks: list[bytes], plan: Layout) -> bytes:
    """A file of these tracks, each with late note-offs for the channels that may have notes."""
    chunks = [struct.pack(">4sIHHH", b"MThd", 6, plan.format, len(tracks), plan.ticks_per_quarter)]
    for events in tracks:
        once = b"\x00".join(_NOTE_OFFS[channel] for channel in range(16) if 0x90 | channel in events)
        late = _LATE + once + (b"\x00" + once) * (_ROUNDS - 1) + b"\x01" + once if once else b""
        chunks += [
            b"MTrk",
            struct.pack(">I", len(events) + len(late) + len(_END_OF_TRACK)),
            events,
            late,
            _END_OF_TRACK,
        ]
    return b"".join(chunks)

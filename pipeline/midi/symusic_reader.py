"""Fast reading of well-formed MIDI files by symusic, with the same notes as `pipeline.midi.smf` gives.

symusic wraps ticks at 32 bits, reads an F7 event as a single byte and a system event as running status, reads past the
end of a short tempo event and drops notes without a note-off. It keeps channel state per track, takes channel 10 alone
for drums and ignores the mode controllers. Therefore it only reads files that follow the grammar of the standard
exactly and in which none of this matters, and its result is only used if it is complete.
"""

import re
import struct
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from pipeline.midi.channel_state import DRUM_BANKS, MELODIC_BANK, RESET, Change, exclusive_changes
from pipeline.midi.smf import SmfIndex, variable_length
from pipeline.midi.song import NEVER, Part, RawSong, TempoMap

if TYPE_CHECKING:
    from data_specs.spec import Limits

_SMALLEST_EVENT = 2  # bytes: a delta time and a data byte under running status
# Two rounds of note-offs are appended to every track. A note that ends in the first has no note-off of its own. The
# second round ends a note only where two notes of one channel and pitch have none.
_LATE_TICK, _LATE = 4 * (2**28 - 1), 3 * b"\xff\xff\xff\x7f\xff\x01\x00" + b"\xff\xff\xff\x7f"
_ROUND_TICKS, _ROUND = 0x1234567, b"\x89\x8d\x8a\x67"
_NOTE_OFFS = tuple(bytes([0x80 | channel]) + b"\x00".join(bytes([p, 0]) for p in range(128)) for channel in range(16))
_END_OF_TRACK = b"\x00\xff\x2f\x00"
# The grammar of the standard: delta times of at most four bytes, channel events with runs under running status. Inert
# are channel events other than program changes, bank selects and the controllers that end notes.
_DELTA = rb"[\x80-\xff]{0,3}+[\x00-\x7f]"
_INERT_CONTROL = rb"[\x01-\x77\x79\x7a][\x00-\x7f]"
_INERT_EVENTS = re.compile(
    rb"(?:%(delta)b[\x80-\xaf\xe0-\xef][\x00-\x7f]{2}(?:%(delta)b[\x00-\x7f]{2})*+"
    rb"|%(delta)b[\xb0-\xbf]%(control)b(?:%(delta)b%(control)b)*+"
    rb"|%(delta)b[\xd0-\xdf][\x00-\x7f](?:%(delta)b[\x00-\x7f])*+)*+" % {b"delta": _DELTA, b"control": _INERT_CONTROL}
)
_OTHER_EVENT = re.compile(
    rb"%(delta)b(?:\xff([\x00-\x7f])|\xf0|([\xc0-\xcf][\x00-\x7f])"
    rb"|[\xb0-\xbf]\x00([\x00-\x7f])(?:%(delta)b%(control)b)*+)" % {b"delta": _DELTA, b"control": _INERT_CONTROL}
)
_MEANINGFUL_BANKS = (*DRUM_BANKS, MELODIC_BANK)
_NOTE_ON = [re.compile(b"[\x00-\x7f]" + bytes([0x90 | channel]) + b"[\x00-\x7f]{2}") for channel in range(16)]
_HARMLESS = [Change(RESET, -1, mode) for mode in ("gm", "gs")]


def read_notes(content: bytes, index: SmfIndex, limits: "Limits") -> RawSong | None:
    """Return the notes of a well-formed file, in any order and without controllers; else None.

    None means that the tolerant reader has to read it: the file is damaged or unusual, may exceed `limits`, or
    symusic's result would be incomplete. The last is so with several notes of one channel and pitch without a note-off,
    with several different tempos at one tick, or with a track name that is not UTF-8.

    Args:
        index: the index of the chunks of `content`.
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
    end = start + length
    late = end >= _LATE_TICK
    if late.any():
        ends = np.unique(end[late])
        if np.isin(ends + _ROUND_TICKS, ends).any():  # symusic drops further notes that are not ended
            return None
        end[late] = NEVER
    part = np.repeat(np.arange(len(notes)), [len(columns["time"]) for columns in notes])
    parts = [Part(track.program, track.is_drum, track.name, 0) for track in score.tracks]
    clock = TempoMap(events, index.ticks_per_quarter)
    return RawSong(parts, [clock], part, start, end, pitch, velocity)


class _PlainTrack(NamedTuple):
    """Bytes of the events of a track without the end of track, and its program changes.

    `programs` are (channel, program, position in `events` in bytes).
    """

    events: bytes
    programs: list[tuple[int, int, int]]

    def may_play(self, channel: int, before: int | None = None) -> bool:
        """Return False only if no event starts a note on `channel`; if `before` is given, none before that position."""
        return 0x90 | channel in self.events and bool(_NOTE_ON[channel].search(self.events[:before]))


def _plain_tracks(content: bytes, index: SmfIndex, limits: "Limits") -> list[_PlainTrack] | None:
    """Return the tracks of a file; None if it is unusual, damaged or may exceed the limits."""
    if index.format > 1 or index.tick_s is not None or index.repaired or limits.largest_tick >= _LATE_TICK:
        return None
    if sum(end - begin for begin, end in index.tracks) > _SMALLEST_EVENT * limits.events or not _ticks_fit(content):
        return None
    tracks = []
    for begin, end in index.tracks:
        track = _plain_track(content, begin, end)
        if track is None:
            return None
        tracks.append(track)
    return tracks if _programs_stay_in_tracks(tracks) else None


def _programs_stay_in_tracks(tracks: list[_PlainTrack]) -> bool:
    """Return whether no program change in one track applies to notes in another.

    It holds if each channel with program changes either is used by one track alone, or has one program in the whole
    file and every track that plays on it sets it before its first note.
    """
    changes: dict[int, dict[int, list[tuple[int, int]]]] = {}  # channel -> track -> program changes
    for number, track in enumerate(tracks):
        for channel, program, position in track.programs:
            changes.setdefault(channel, {}).setdefault(number, []).append((program, position))
    for channel, by_track in changes.items():
        playing = [number for number, track in enumerate(tracks) if track.may_play(channel)]
        if len(by_track.keys() | set(playing)) == 1:
            continue
        if len({program for of_track in by_track.values() for program, _ in of_track}) > 1:
            return False
        if any(n not in by_track or tracks[n].may_play(channel, before=by_track[n][0][1]) for n in playing):
            return False
    return True


def _ticks_fit(content: bytes) -> bool:
    """Return whether all ticks are at least `_ROUND_TICKS` below `_LATE_TICK`, so that appended note-offs do not wrap.

    An upper bound of the last tick is compared: the sum of all variable-length quantities that the bytes of the file
    could form, as if each byte below 128 ended a delta time.
    """
    array = np.frombuffer(content, np.uint8)
    value = (array & 0x7F).astype(np.int64)
    high = array > 0x7F
    bound, ends = int(value[~high].sum()), ~high
    for shift in (1, 2, 3):
        ends = ends[1:] & high[:-shift]
        bound += int(value[:-shift][ends].sum()) << (7 * shift)
    return bound + _ROUND_TICKS < _LATE_TICK


def _plain_track(content: bytes, begin: int, end: int) -> _PlainTrack | None:
    """Return the track at bytes `begin` to `end` of a file if symusic reads its events as `pipeline.midi.smf` does.

    None is returned for other system events than exclusive ones, running status across system exclusive or meta events,
    and tempos of other than three bytes; also for events that select drums or end all notes, and for ports other than
    0.
    """
    programs: list[tuple[int, int, int]] = []
    position = begin
    while True:
        inert = _INERT_EVENTS.match(content, position, end)
        assert inert  # matches the empty string
        position = inert.end()
        if position == end:
            return _PlainTrack(content[begin:end], programs)
        other = _OTHER_EVENT.match(content, position, end)
        if not other:
            return None
        meta, program, bank = other.groups()
        if meta == b"\x2f":
            return _PlainTrack(content[begin:position], programs)
        if program:
            programs.append((program[0] & 0x0F, program[1], position - begin))
        if bank and bank[0] in _MEANINGFUL_BANKS:
            return None
        position = other.end()
        if program or bank:
            continue
        try:
            length, data = variable_length(content, position)
        except IndexError:
            return None
        position = data + length
        if position > end or (meta == b"\x51" and length != 3):
            return None
        if meta == b"\x21" and content[data:position].strip(b"\x00"):  # port 0 is the port without the event
            return None
        if meta is None and any(change not in _HARMLESS for change in exclusive_changes(content[data:position])):
            return None


def _with_late_note_offs(tracks: list[_PlainTrack], index: SmfIndex) -> bytes:
    """Return a MIDI file of these tracks, each with two rounds of note-offs for every channel that may have notes."""
    chunks = [struct.pack(">4sIHHH", b"MThd", 6, index.format, len(tracks), index.ticks_per_quarter)]
    for events, _ in tracks:
        note_offs = [_NOTE_OFFS[channel] for channel in range(16) if 0x90 | channel in events]
        offs = b"\x00".join(note_offs)
        late = _LATE + offs + _ROUND + offs if note_offs else b""
        body = events + late + _END_OF_TRACK
        chunks += [b"MTrk", struct.pack(">I", len(body)), body]
    return b"".join(chunks)

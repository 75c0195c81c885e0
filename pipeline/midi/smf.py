"""Tolerant reading of Standard MIDI Files, which keeps as many notes of a damaged file as it can.

This module defines which notes a file has; `pipeline.midi.symusic_reader` gives the same notes for well-formed files.
Where the standard (MIDI Manufacturers Association, "Standard MIDI Files 1.0") or practice leaves a choice, these rules
apply:

- A note belongs to the track chunk, channel and program in force at its start. A note-off ends the oldest open note of
  its channel and pitch within the chunk. `pipeline.midi.reader` decides how long overlapping notes of one pitch sound.
- In formats 0 and 1 the state of a channel belongs to the file, as on the synthesizer that plays it; in format 2 to
  the track. Events at one tick apply by track, then by position. Each port (meta event 21) has channels of its own.
- Controllers 120 and 123 to 127 end those notes of their channel that started at an earlier tick.
- Track chunks beyond the number in the header are read too.
- Running status continues after meta, system exclusive and real-time events and is canceled by other system messages.
  Only meta and system exclusive events belong in a file; other system messages are skipped.
- A velocity above 127 is read as 127. A note with a pitch above 127 is skipped.
- A track that is cut short or invalid from some point keeps the notes before that point. A chunk with a wrong length
  ends where the next track begins.
"""

import struct
from collections import defaultdict, deque
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np

from pipeline.midi.channel_state import ALL_OFF, BANK, BANK_MSB, PROGRAM, Change, exclusive_changes, state_timeline
from pipeline.midi.controllers import BEND, CONTROLLERS
from pipeline.midi.song import NEVER, RULES, FrameClock, Part, RawSong, TempoMap
from pipeline.rejects import Rejected

if TYPE_CHECKING:
    from data_specs.spec import Limits

_HEADER = struct.Struct(">4sIHHH")
_CHUNK = struct.Struct(">4sI")
_WRAPPER_BYTES = 4096  # within which another format (RIFF, MacBinary) around the MIDI file may place its header
_SMPTE_FRAMES = {24: Fraction(24), 25: Fraction(25), 29: Fraction(30_000, 1001), 30: Fraction(30)}
_ZIP, _HTML = b"PK\x03\x04", (b"<!doctype html", b"<html", b"<head", b"<?xml")
# Data bytes of the system messages quarter frame, song position and song select; others have none.
_SYSTEM_DATA = {0xF1: 1, 0xF2: 2, 0xF3: 1}
_ORDER_BITS, _LARGEST_TICK = 26, 1 << 36  # beyond which `pipeline.midi.reader` rejects a note
_NO_CUT = np.iinfo(np.int64).max
_UNDEFINED = (0xF4, 0xF5, 0xF9, 0xFD)


@dataclass(frozen=True)
class SmfIndex:
    """Header fields of a file and the positions of its track chunks.

    Attributes:
        format: as in the header: 0, 1 or 2, but in a damaged file possibly more.
        ticks_per_quarter: ticks per quarter note, 0 under an SMPTE division.
        tick_s: length of a tick in seconds under an SMPTE division, else None.
        tracks: first byte and end (exclusive) of the content of each track chunk.
        repaired: kinds of damage that were bypassed.
    """

    format: int
    ticks_per_quarter: int
    tick_s: Fraction | None
    tracks: tuple[tuple[int, int], ...]
    repaired: frozenset[str]


def index_chunks(content: bytes) -> SmfIndex:
    """Locate the header and the track chunks of a file.

    Raises:
        Rejected: the file is empty, is not MIDI, ends within the header, or has an invalid time division or no track
            chunk.
    """
    begin = _header_offset(content)
    riff_end = _riff_end(content, begin)
    repaired = {"header"} if begin and riff_end is None else set()
    content = content[:riff_end]
    if len(content) < begin + _HEADER.size:
        raise Rejected("damaged header", f"the file ends after {len(content) - begin} bytes")
    _, length, form, announced, division = _HEADER.unpack_from(content, begin)
    if length != 6 or form > 2 or not announced:
        repaired.add("header")
    quarter, tick_s = _division(division)
    position = begin + 8 + (length if 6 <= length <= 64 else 6)
    spans: list[tuple[int, int]] = []
    while len(spans) < (announced or 0xFFFF) or _leads_to_track(content, position):
        span, position, valid = _next_track(content, position)
        if not valid:
            repaired.add("chunk length")
        if span is None:  # fewer than announced: common, and nothing is lost
            break
        spans.append(span)
    if len(spans) > announced:
        repaired.add("header")
    if not spans:
        raise Rejected("no tracks", "a header without track chunks")
    return SmfIndex(form, quarter, tick_s, tuple(spans), frozenset(repaired))


def _header_offset(content: bytes) -> int:
    if content.startswith(b"MThd"):
        return 0
    if not content.strip(b"\x00 \t\r\n"):
        raise Rejected("empty file", f"{len(content)} bytes")
    if content.startswith(_ZIP):
        raise Rejected("ZIP archive", "saved under the name of a MIDI file")
    if content[:1024].lstrip(b"\xef\xbb\xbf \t\r\n").lower().startswith(_HTML):
        raise Rejected("HTML page", "saved under the name of a MIDI file")
    begin = content.find(b"MThd", 0, _WRAPPER_BYTES)
    if begin < 0:
        raise Rejected("not MIDI", f"begins with {content[:8]!r}")
    return begin


def _riff_end(content: bytes, begin: int) -> int | None:
    """Return the end of the MIDI data if they are in a RIFF file (RMID) and start at `begin`, else None."""
    if begin < 20 or not (content.startswith(b"RIFF") and content[8:12] == b"RMID"):
        return None
    end = begin + int.from_bytes(content[begin - 4 : begin], "little")
    return end if content[begin - 8 : begin - 4] == b"data" and begin + _HEADER.size <= end <= len(content) else None


def _division(division: int) -> tuple[int, Fraction | None]:
    """Return (ticks per quarter note, None), or (0, seconds per tick) for SMPTE frames; raise Rejected if invalid."""
    if not division & 0x8000:
        if not division:
            raise Rejected("division of time", "a quarter note of 0 ticks")
        return division, None
    frames, ticks = 256 - (division >> 8), division & 0xFF
    if frames not in _SMPTE_FRAMES or not ticks:
        raise Rejected("division of time", f"{frames} frames a second of {ticks} ticks")
    return 0, 1 / (_SMPTE_FRAMES[frames] * ticks)


def _next_track(content: bytes, position: int) -> tuple[tuple[int, int] | None, int, bool]:
    """Find the next track chunk at or after `position`.

    Returns:
        First byte and end of its content, or None if there is none; the position after the chunk; and whether the
        lengths of all chunks up to there were valid.
    """
    valid = True
    while True:
        if not _is_chunk(content, position):
            valid = valid and position >= len(content)
            position = content.find(b"MTrk", position)
            if position < 0 or len(content) < position + 8:
                return None, len(content), valid
        tag, length = _CHUNK.unpack_from(content, position)
        begin, end = position + 8, position + 8 + length
        if not (end == len(content) or _is_chunk(content, end)):
            # Trailing bytes after the last track, or a wrong length: then the next track's tag ends this one.
            following = content.find(b"MTrk", begin)
            if end > len(content) or following >= 0:
                valid = False
                end = following if following >= 0 else len(content)
        if tag == b"MTrk":
            return (begin, end), end, valid
        position = end


def _leads_to_track(content: bytes, position: int) -> bool:
    """Return whether a track chunk is at `position`, or follows there after whole chunks that are no MIDI header."""
    while _is_chunk(content, position):
        tag, length = _CHUNK.unpack_from(content, position)
        if tag in (b"MTrk", b"MThd"):
            return bool(tag == b"MTrk")
        position += 8 + length
    return False


def _is_chunk(content: bytes, position: int) -> bool:
    tag = content[position : position + 4]
    return len(content) >= position + 8 and tag.isalnum() and tag.isascii()


def read_notes(content: bytes, index: SmfIndex, limits: "Limits") -> RawSong:
    """Return the notes of all tracks of a file, in file order, with their controllers; damage is bypassed.

    Raises:
        Rejected: the file has more than `limits.events` events.
    """
    reader = _EventReader(limits.events, set(index.repaired))
    for begin, end in index.tracks:
        reader.read_track(content[begin:end], own_channels=index.format == 2)
    chunk, scope, position, end_tick, pitch, velocity = np.array(reader.notes, np.int64).reshape(-1, 6).T
    start = position >> _ORDER_BITS
    program, drums = np.zeros_like(start), np.zeros_like(start)
    for key in np.unique(scope).tolist():
        rows = np.flatnonzero(scope == key)
        timeline = state_timeline(key % 16, sorted(reader.changes[key]))
        at = np.searchsorted(timeline[0], position[rows], side="right") - 1
        program[rows], drums[rows] = timeline[1][at], timeline[2][at]
        if key in reader.all_off:
            cuts = np.append(np.sort(reader.all_off[key]), _NO_CUT)
            cut = cuts[np.searchsorted(cuts, start[rows], side="right")]
            ends = np.where(end_tick[rows] == NEVER, _NO_CUT, end_tick[rows])
            end_tick[rows] = np.where(np.minimum(ends, cut) == _NO_CUT, NEVER, np.minimum(ends, cut))
    owner = (chunk * 2048 + scope % 2048) * 256 + program * 2 + drums
    owners, part = np.unique(owner, return_inverse=True)
    clocks = _clocks(index, reader.tempos)
    parts, scopes = [], []
    for key in owners.tolist():
        number = key >> 19
        scopes.append((key >> 8) % 2048 + (number * 2048 if index.format == 2 else 0))
        parts.append(Part(key // 2 % 128, bool(key % 2), reader.names[number], number if len(clocks) > 1 else 0))
    repaired = tuple(sorted(reader.repaired))
    moves = [
        [(when >> _ORDER_BITS, controller, value) for when, controller, value in sorted(reader.moves[scope])]
        for scope in scopes
    ]
    return RawSong(parts, clocks, part, start, end_tick, pitch, velocity, repaired, RULES, moves)


def _clocks(index: SmfIndex, tempos: list[list[tuple[int, int]]]) -> list[TempoMap | FrameClock]:
    """Return the clocks of a file: one for all tracks, or in format 2 without SMPTE division one for each track.

    Args:
        tempos: for each track its (tick, microseconds per quarter note); not used under an SMPTE division.
    """
    if index.tick_s is not None:
        return [FrameClock(index.tick_s)]
    if index.format == 2:
        return [TempoMap(of_track, index.ticks_per_quarter) for of_track in tempos]
    return [TempoMap([tempo for of_track in tempos for tempo in of_track], index.ticks_per_quarter)]


class _EventReader:
    """Reader of the events of a file, which collects notes and changes of state from one track after the other.

    A scope is the number of a channel with a state of its own: port * 16 + channel, in format 2 plus 2048 * chunk. A
    position sorts the events of a file in time: tick * 2^_ORDER_BITS + number of the event in the file.

    Attributes:
        notes: [chunk, scope, position, end tick or NEVER, pitch, velocity] in file order.
        changes: (position, change) by scope.
        all_off: ticks at which all notes end, by scope.
        moves: (position, controller or BEND, value) by scope.
        names: name of each track chunk.
        tempos: for each track chunk its (tick, microseconds per quarter note).
        repaired: kinds of damage found so far.
    """

    def __init__(self, most_events: int, repaired: set[str]) -> None:
        self.events_left = most_events
        self.most_events = most_events
        self.repaired = repaired
        self.notes: list[list[int]] = []
        self.changes: dict[int, list[tuple[int, Change]]] = defaultdict(list)
        self.all_off: dict[int, list[int]] = defaultdict(list)
        self.moves: dict[int, list[tuple[int, int, int]]] = defaultdict(list)
        self.names: list[str] = []
        self.tempos: list[list[tuple[int, int]]] = []

    def read_track(self, data: bytes, own_channels: bool) -> None:
        """Read the content of the next track chunk and add what it holds to the attributes.

        With `own_channels` its channels share no state with those of other tracks.

        Raises:
            Rejected: the tracks read so far have more than `most_events` events.
        """
        self.scope = len(self.names) * 2048 if own_channels else 0  # of channel 0
        self.names.append("")
        self.tempos.append([])
        try:
            self._read_events(data)
        except IndexError:
            self.repaired.add("track cut short")

    def _read_events(self, data: bytes) -> None:
        """Read events up to the end of the track; raise IndexError if the data end within one, and as `read_track`."""
        chunk = len(self.names) - 1
        position, tick, status = 0, 0, 0
        pending: dict[int, deque[list[int]]] = defaultdict(deque)  # (scope, pitch) -> open notes, oldest first
        while position < len(data):
            byte = data[position]
            if byte < 0x80:  # most delta times; calling variable_length for each would cost a third of the time
                tick += byte
                position += 1
            else:
                delta, position = variable_length(data, position)
                tick += delta
            byte = data[position]
            self.events_left -= 1
            if self.events_left < 0:
                raise Rejected("too many events", f"more than {self.most_events}")
            when = min(tick, _LARGEST_TICK) << _ORDER_BITS | self.most_events - self.events_left
            if byte >= 0xF0:
                if byte in (0xF0, 0xF7, 0xFF):
                    kind = data[position + 1] if byte == 0xFF else None
                    if kind == 0x2F:
                        return
                    length, position = variable_length(data, position + (2 if byte == 0xFF else 1))
                    if position + length > len(data):
                        raise IndexError
                    if kind is not None:
                        self._read_meta(kind, tick, data[position : position + length])
                    elif byte == 0xF0:
                        self._change(when, exclusive_changes(data[position : position + length]))
                    position += length
                    continue
                if byte in _UNDEFINED:
                    self.repaired.add("undefined status")
                position += 1 + _SYSTEM_DATA.get(byte, 0)
                if byte < 0xF8:
                    status = 0
                continue
            if byte >= 0x80:
                status = byte
                position += 1
            elif not status:
                self.repaired.add("event without status")
                return
            channel = status & 0x0F
            if status & 0xE0 == 0xC0:  # program change and channel pressure: one data byte
                if status < 0xD0:
                    self._change(when, [Change(PROGRAM, channel, min(data[position], 127))])
                    if data[position] > 127:
                        self.repaired.add("data byte")
                position += 1
                continue
            pitch, velocity = data[position], data[position + 1]
            position += 2
            if status >= 0xA0:
                if status & 0xF0 == 0xB0:
                    if pitch in CONTROLLERS:
                        self._move(when, channel, pitch, velocity)
                    elif pitch == BANK_MSB:
                        self._change(when, [Change(BANK, channel, velocity)])
                    elif pitch in ALL_OFF:
                        scope = self.scope + channel
                        self.all_off[scope].append(tick)
                        for open_key in pending:
                            if open_key >> 7 == scope:  # later note-offs end later notes
                                still = [n for n in pending[open_key] if n[2] >> _ORDER_BITS == tick]
                                pending[open_key] = deque(still)
                elif status & 0xF0 == 0xE0:
                    self._move(when, channel, BEND, velocity % 128 << 7 | pitch % 128)
                continue
            if velocity > 127:
                self.repaired.add("data byte")
                velocity = 127
            if pitch > 127:
                self.repaired.add("data byte")
                continue
            scope = self.scope + channel
            key = scope << 7 | pitch
            if status >= 0x90 and velocity:
                note = [chunk, scope, when, NEVER, pitch, velocity]
                self.notes.append(note)
                pending[key].append(note)
            elif waiting := pending.get(key):
                waiting.popleft()[3] = min(tick, _LARGEST_TICK)

    def _change(self, when: int, changes: list[Change]) -> None:
        for change in changes:
            for channel in range(16) if change.channel < 0 else (change.channel,):
                self.changes[self.scope + channel].append((when, change))

    def _move(self, when: int, channel: int, controller: int, value: int) -> None:
        self.moves[self.scope + channel].append((when, controller, value))

    def _read_meta(self, kind: int, tick: int, data: bytes) -> None:
        if kind == 0x51 and len(data) >= 3:
            self.tempos[-1].append((tick, int.from_bytes(data[:3])))
        elif kind == 0x03:
            self.names[-1] = _text(data)
        elif kind == 0x21 and data:
            self.scope = self.scope // 2048 * 2048 + data[0] % 128 * 16


def variable_length(data: bytes, position: int) -> tuple[int, int]:
    """Return the variable-length quantity at `position`, of four bytes at most, and the position after it.

    Raises:
        IndexError: the data end within the quantity.
    """
    byte = data[position]
    value = byte & 0x7F
    position += 1
    for _ in range(3):
        if byte < 0x80:
            break
        byte = data[position]
        value = value << 7 | byte & 0x7F
        position += 1
    return value, position


def _text(data: bytes) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return data.decode("latin-1")

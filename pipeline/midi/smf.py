"""Standard MIDI Files, byte by byte, read around damage.

This is the definition of what a file says; `midi` reads sound files by a compiled reader that gives the same
notes. The rules, where the standard (MIDI Manufacturers Association, "Standard MIDI Files 1.0") or practice leaves a
choice:

- A note belongs to the track chunk, channel and program in force when it begins. Each note-off is paired with the
  oldest note still waiting on its channel and pitch. How long notes of one pitch sound that overlap is not decided
  here but in `pipeline.midi.reader`.
- Running status outlives meta, system exclusive and real-time events; the other system messages end it. None but the
  first two should be in a file: they are stepped over.
- Damage costs as little as possible: a velocity above 127 is taken as 127, an event with a pitch above 127 is left
  out, a track with no end, cut short or going astray keeps the notes before that place, and a chunk whose length leads
  to no chunk ends where the next track begins.
"""

import struct
from collections import deque
from dataclasses import dataclass, field
from fractions import Fraction
from typing import NamedTuple

from pipeline.midi.song import NEVER
from pipeline.rejects import Rejected

_HEADER = struct.Struct(">4sIHHH")
_CHUNK = struct.Struct(">4sI")
_WRAPPER_BYTES = 4096  # how far into a file another format (RIFF, MacBinary) may place the header
_SMPTE_FRAMES = {24: Fraction(24), 25: Fraction(25), 29: Fraction(30_000, 1001), 30: Fraction(30)}
_ZIP, _HTML = b"PK\x03\x04", (b"<!doctype html", b"<html", b"<head", b"<?xml")
# Bytes that follow a system status in a track: quarter frame, song position, song select; the others have none.
_SYSTEM_DATA = {0xF1: 1, 0xF2: 2, 0xF3: 1}
_UNDEFINED = (0xF4, 0xF5, 0xF9, 0xFD)


class RawNote(NamedTuple):
    """A note with its own note-off's tick, or NEVER."""

    start_tick: int
    end_tick: int
    channel: int
    program: int
    pitch: int
    velocity: int


@dataclass
class RawTrack:
    """One track chunk: `tempos` are (tick, microseconds a quarter note) in file order."""

    notes: list[RawNote] = field(default_factory=list)
    tempos: list[tuple[int, int]] = field(default_factory=list)
    name: str = ""
    events: int = 0


@dataclass(frozen=True)
class Layout:
    """Where things are in a file. `tracks` are the (begin, end) of the track chunks' contents, at most as many as the
    header announces; `tick_s` is the length of a tick in seconds where the division is SMPTE's, else None."""

    format: int
    ticks_per_quarter: int
    tick_s: Fraction | None
    tracks: tuple[tuple[int, int], ...]
    mended: frozenset[str]


def layout(content: bytes) -> Layout:
    """The header and the chunks of a file.

    Raises:
        Rejected: it is empty, of another kind, or its division of time means nothing.
    """
    begin = _header_offset(content)
    mended = {"header"} if begin else set()
    if len(content) < begin + _HEADER.size:
        raise Rejected("damaged header", f"the file ends after {len(content) - begin} bytes")
    _, length, form, announced, division = _HEADER.unpack_from(content, begin)
    if length != 6 or form > 2 or not announced:
        mended.add("header")
    quarter, tick_s = _division(division)
    position = begin + 8 + (length if 6 <= length <= 64 else 6)
    spans: list[tuple[int, int]] = []
    while len(spans) < (announced or 0xFFFF):
        span, position, sound = _next_track(content, position)
        if not sound:
            mended.add("chunk length")
        if span is None:  # fewer than announced: common, and nothing is lost
            break
        spans.append(span)
    return Layout(form, quarter, tick_s, tuple(spans), frozenset(mended))


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


def _division(division: int) -> tuple[int, Fraction | None]:
    """Ticks of a quarter note, or the seconds of a tick where the division counts SMPTE frames."""
    if not division & 0x8000:
        if not division:
            raise Rejected("division of time", "a quarter note of 0 ticks")
        return division, None
    frames, ticks = 256 - (division >> 8), division & 0xFF
    if frames not in _SMPTE_FRAMES or not ticks:
        raise Rejected("division of time", f"{frames} frames a second of {ticks} ticks")
    return 0, 1 / (_SMPTE_FRAMES[frames] * ticks)


def _next_track(content: bytes, position: int) -> tuple[tuple[int, int] | None, int, bool]:
    """The next track chunk's content, where to go on, and whether all lengths on the way made sense."""
    sound = True
    while True:
        if not _is_chunk(content, position):
            sound = sound and position >= len(content)
            position = content.find(b"MTrk", position)
            if position < 0 or len(content) < position + 8:
                return None, len(content), sound
        tag, length = _CHUNK.unpack_from(content, position)
        begin, end = position + 8, position + 8 + length
        if not (end == len(content) or _is_chunk(content, end)):
            # Either something trails the last track, or the length is wrong: then the next track's tag ends this one.
            following = content.find(b"MTrk", begin)
            if end > len(content) or following >= 0:
                sound = False
                end = following if following >= 0 else len(content)
        if tag == b"MTrk":
            return (begin, end), end, sound
        position = end


def _is_chunk(content: bytes, position: int) -> bool:
    tag = content[position : position + 4]
    return len(content) >= position + 8 and tag.isalnum() and tag.isascii()


def read_track(content: bytes, largest_events: int, mended: set[str]) -> RawTrack:
    """Read the content of one track chunk; kinds of damage met on the way are added to `mended`.

    Raises:
        Rejected: it has more than `largest_events` events.
    """
    track = RawTrack()
    try:
        _read_events(content, track, largest_events, mended)
    except IndexError:
        mended.add("track cut short")
    return track


def _read_events(data: bytes, track: RawTrack, largest_events: int, mended: set[str]) -> None:
    """Walk over the events up to the end of the track; IndexError where the data end within an event."""
    position, tick, status, events = 0, 0, 0, 0
    programs = [0] * 16
    pending: dict[int, deque[list[int]]] = {}  # (channel, pitch) -> open notes, oldest first
    begun: list[list[int]] = []  # notes in the order of their beginning
    try:
        while position < len(data):
            byte = data[position]
            if byte < 0x80:  # most delta times; a call for each would cost a third of the time
                tick += byte
                position += 1
            else:
                delta, position = variable_length(data, position)
                tick += delta
            byte = data[position]
            events += 1
            if events > largest_events:
                raise Rejected("too many events", f"more than {largest_events}")
            if byte == 0xFF:
                kind = data[position + 1]
                if kind == 0x2F:
                    return
                length, position = variable_length(data, position + 2)
                if position + length > len(data):
                    raise IndexError
                if kind == 0x51 and length >= 3:
                    track.tempos.append((tick, int.from_bytes(data[position : position + 3])))
                elif kind == 0x03:
                    track.name = _text(data[position : position + length])
                position += length
                continue
            if byte in (0xF0, 0xF7):
                length, position = variable_length(data, position + 1)
                if position + length > len(data):
                    raise IndexError
                position += length
                continue
            if byte >= 0xF1:
                if byte in _UNDEFINED:
                    mended.add("undefined status")
                position += 1 + _SYSTEM_DATA.get(byte, 0)
                if byte < 0xF8:
                    status = 0
                continue
            if byte >= 0x80:
                status = byte
                position += 1
            elif not status:
                mended.add("event without status")
                return
            channel = status & 0x0F
            if status & 0xE0 == 0xC0:  # program change and channel pressure: one data byte
                if status < 0xD0:
                    programs[channel] = min(data[position], 127)
                    if data[position] > 127:
                        mended.add("data byte")
                position += 1
                continue
            pitch, velocity = data[position], data[position + 1]
            position += 2
            if status >= 0xA0:
                continue
            if velocity > 127:
                mended.add("data byte")
                velocity = 127
            if pitch > 127:
                mended.add("data byte")
                continue
            key = channel << 7 | pitch
            if status >= 0x90 and velocity:
                note = [tick, NEVER, channel, programs[channel], pitch, velocity]
                begun.append(note)
                pending.setdefault(key, deque()).append(note)
            elif waiting := pending.get(key):
                waiting.popleft()[1] = tick
    finally:
        track.events = events
        track.notes = [RawNote(*note) for note in begun]


def variable_length(data: bytes, position: int) -> tuple[int, int]:
    """A variable-length quantity of at most four bytes, and the position behind it."""
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

"""Reading of a MIDI file into a song, by symusic if the file is well-formed, else by the tolerant reader.

Both readers give the same song. Notes of one pitch in one part do not overlap: each sounds until the next start or end
of a note of that pitch, as on a synthesizer. A note without an end is dropped unless a later one of its pitch ends it.
Notes of no length are dropped too.
"""

from itertools import pairwise
from typing import Any

import numpy as np

from data_specs.arrays import Float64, Int64
from data_specs.spec import Limits
from pipeline.midi import smf, symusic_reader
from pipeline.midi.song import NEVER, RawSong, Song, Track
from pipeline.rejects import Rejected
from pipeline.sandbox import Sandbox

_TICK_BITS, _PART_BITS = 36, 20


def read_song(content: bytes, limits: Limits) -> Song:
    """Return the song in the bytes of a MIDI file. Equal bytes give equal songs, or rejections, on every machine.

    Raises:
        Rejected: the file is not MIDI, has a damaged header, an invalid time division, no track chunks or no notes, or
            exceeds a limit (bytes, events, notes, largest tick).
    """
    check_size(content, limits)
    index = smf.index_chunks(content)
    raw = symusic_reader.read_notes(content, index, limits) or smf.read_notes(content, index, limits)
    return sounding_song(raw, limits)


def check_size(content: bytes, limits: Limits) -> None:
    """Check that a file has at most `limits.file_bytes` bytes.

    Raises:
        Rejected: it has more.
    """
    if len(content) > limits.file_bytes:
        raise Rejected("file too large", f"{len(content)} bytes, at most {limits.file_bytes}")


def sounding_song(raw: RawSong, limits: Limits) -> Song:
    """Return the song of the notes in a file: overlaps of one pitch ended, notes divided into tracks, times in seconds.

    Raises:
        Rejected: no notes are left, there are more notes than `limits.notes`, or a note ends after
            `limits.largest_tick`.
    """
    raw = until_next_edge(raw)
    count = len(raw.part)
    if not count:
        raise Rejected("no notes", "no track has a note that begins and ends")
    # promise: rejected-size-first-same
    if count > limits.notes:
        raise Rejected("too many notes", f"{count}, at most {limits.notes}")
    largest = int(raw.end_tick.max())
    if largest > limits.largest_tick:
        raise Rejected("ticks too large", f"a note ends at tick {largest}, at most {limits.largest_tick}")
    start_s, end_s = _seconds(raw, raw.start_tick), _seconds(raw, raw.end_tick)
    pitch, velocity = raw.pitch.astype(np.int16), raw.velocity.astype(np.int16)
    columns: tuple[np.ndarray, ...] = (raw.start_tick, raw.end_tick, start_s, end_s, pitch, velocity)
    present, first = np.unique(raw.part, return_index=True)
    tracks = []
    for index, (part, bounds) in enumerate(zip(present.tolist(), pairwise([*first.tolist(), count]), strict=True)):
        about, rows = raw.parts[part], slice(*bounds)
        tracks.append(Track(index, about.program, about.is_drum, about.name, *(column[rows] for column in columns)))
    return Song(tuple(tracks), float(end_s.max()), raw.repaired, raw.rules)


def until_next_edge(raw: RawSong) -> RawSong:
    """Return the notes of `raw`, each ended at the next tick at which a note of its part and pitch starts or ends.

    Its own end is such a tick. Notes of no length are dropped and end no other note. Notes that no tick ends are
    dropped too, so there may be fewer notes. They are sorted by part, start, pitch, end and velocity.

    Raises:
        Rejected: a note starts or ends at or beyond tick 2^36, or there are 2^20 or more parts.
    """
    part, start, end, pitch = raw.part, raw.start_tick, raw.end_tick, raw.pitch
    if (len(start) and max(int(start.max()), int(end.max())) >> _TICK_BITS) or len(raw.parts) >> _PART_BITS:
        raise Rejected("ticks too large", f"a note starts or ends beyond tick 2^{_TICK_BITS}")
    kept = start != end
    key = (part << 7 | pitch) << _TICK_BITS  # (part, pitch, tick) as one number
    edges = np.concatenate([(key + start)[kept], (key + end)[kept & (end != NEVER)]])
    edges.sort()
    after = np.searchsorted(edges, key + start, side="right")
    end = np.append(edges, np.iinfo(np.int64).max)[after] - key
    kept &= end >> _TICK_BITS == 0  # else the next edge is another key's
    order = np.lexsort((end << 7 | raw.velocity, (part << _TICK_BITS | start) << 7 | pitch))
    order = order[kept[order]]
    return raw._replace(
        part=part[order], start_tick=start[order], end_tick=end[order], pitch=pitch[order], velocity=raw.velocity[order]
    )


def _seconds(raw: RawSong, ticks: Int64) -> Float64:
    """Return ticks [n], one for each note, as seconds from tick 0 by the clock of the note's part, float64 [n]."""
    if len(raw.clocks) == 1:
        return raw.clocks[0](ticks)
    clock_of = np.array([part.clock for part in raw.parts])[raw.part]
    seconds = np.empty(len(ticks))
    for row in np.unique(clock_of).tolist():
        seconds[clock_of == row] = raw.clocks[row](ticks[clock_of == row])
    return seconds


def read_packed(content: bytes, limits: dict[str, Any]) -> bytes:
    """Return the song of `read_song` as the bytes of `Song.pack`. It runs in the child process.

    Args:
        limits: the fields of Limits as JSON values.

    Raises:
        Rejected: as by `read_song`.
    """
    return read_song(content, Limits(**limits)).pack()


class SandboxedReader(Sandbox):
    """`read_song` in a child process, which is replaced if a file makes it time out, exhaust memory or crash."""

    def __init__(self, limits: Limits) -> None:
        parameters = {"limits": limits.model_dump()}
        super().__init__("pipeline.midi.reader:read_packed", parameters, limits.seconds, limits.memory_mb)
        self.limits = limits

    def __call__(self, content: bytes) -> Song:
        """Return the song in the bytes of a MIDI file.

        Raises:
            Rejected: as by `read_song`; `timeout`, `memory` or `crash` if the child had to be ended twice; `crash` if
                it raised another error or its answer is not a song.
            UserError: the child process cannot be started.
        """
        check_size(content, self.limits)
        packed = self.call(content)
        try:
            return Song.unpack(packed)
        except ValueError as error:
            raise Rejected("crash", f"the child returned {error}") from error

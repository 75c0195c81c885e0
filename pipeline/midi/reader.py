"""Reading a MIDI file into a song, by symusic if the file is well-formed, else by the tolerant reader.

Both readers give the same song. A key has one state: where notes of one pitch overlap within a part, each sounds until
the next start or end of a note of that pitch, as on a synthesizer. Notes that are neither ended nor struck again are
dropped, and so are notes of no length.
"""

from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.midi import smf, symusic_reader
from pipeline.midi.song import NEVER, RawSong, Song, Track
from pipeline.rejects import Rejected

if TYPE_CHECKING:
    from data_specs.spec import Limits

_TICK_BITS, _PART_BITS = 36, 20


def read_song(content: bytes, limits: "Limits") -> Song:
    """Read a MIDI file. Equal bytes give equal songs, or the same rejection, on every machine.

    Raises:
        Rejected: not a MIDI file, no notes, or beyond a limit (bytes, events, notes, largest tick).
    """
    check_size(content, limits)
    index = smf.index_chunks(content)
    raw = symusic_reader.read_notes(content, index, limits) or smf.read_notes(content, index, limits)
    return sounding_song(raw, limits)


def check_size(content: bytes, limits: "Limits") -> None:
    """Raise Rejected if the file exceeds the limit on its size."""
    if len(content) > limits.file_bytes:
        raise Rejected("file too large", f"{len(content)} bytes, at most {limits.file_bytes}")


def sounding_song(raw: RawSong, limits: "Limits") -> Song:
    """Let the notes of each part sound, sort them and convert ticks to seconds.

    Raises:
        Rejected: no notes, or beyond a limit on notes or ticks.
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
    present, first = np.unique(raw.part, return_index=True)
    tracks = []
    for index, (part, start, stop) in enumerate(
        zip(present.tolist(), first.tolist(), [*first[1:].tolist(), count], strict=True)
    ):
        rows = slice(start, stop)
        about = raw.parts[part]
        tracks.append(
            Track(
                index,
                about.program,
                about.is_drum,
                about.name,
                raw.start_tick[rows],
                raw.end_tick[rows],
                start_s[rows],
                end_s[rows],
                pitch[rows],
                velocity[rows],
            )
        )
    return Song(tuple(tracks), float(end_s.max()), raw.repaired, raw.rules)


def until_next_edge(raw: RawSong) -> RawSong:
    """End each note at the next tick at which a note of its part and pitch starts or ends; sort by part and tick."""
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


def _seconds(raw: RawSong, ticks: np.ndarray) -> np.ndarray:
    """Convert ticks [n] to seconds, float64 [n], by the clock of each note's part."""
    if len(raw.clocks) == 1:
        return raw.clocks[0](ticks)
    clock_of = np.array([part.clock for part in raw.parts])[raw.part]
    seconds = np.empty(len(ticks))
    for row in np.unique(clock_of).tolist():
        seconds[clock_of == row] = raw.clocks[row](ticks[clock_of == row])
    return seconds


def read_packed(content: bytes, limits: dict[str, Any]) -> bytes:
    """Read a song in a child process: limits as JSON, the song packed."""
    from data_specs.spec import Limits

    return read_song(content, Limits(**limits)).pack()


class SandboxedReader:
    """`read_song` in a child process that is replaced if a file makes it hang, exhaust memory or crash."""

    def __init__(self, limits: "Limits") -> None:
        from pipeline.sandbox import Sandbox

        self.limits = limits
        self._sandbox = Sandbox(
            "pipeline.midi.reader:read_packed",
            {"limits": limits.model_dump()},
            seconds=limits.seconds,
            memory_mb=limits.memory_mb,
        )

    def __call__(self, content: bytes) -> Song:
        """Read a MIDI file.

        Raises:
            Rejected: as `read_song`, or `timeout`, `memory` or `crash` if the child failed twice.
        """
        check_size(content, self.limits)
        packed = self._sandbox.call(content)
        try:
            return Song.unpack(packed)
        except ValueError as error:
            raise Rejected("crash", f"the child returned {error}") from error

    def close(self) -> None:
        """End the child process."""
        self._sandbox.close()

    def __enter__(self) -> "SandboxedReader":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

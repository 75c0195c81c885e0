"""From the bytes of a MIDI file to a song, fast where the file is sound and around the damage where it is not.

`plain_midi` takes sound files, `smf` the others. Which of the two has read a file does not show in the song.

A key has one state: where notes of one pitch overlap in a track, each sounds up to the next beginning or end of a note
of that pitch, as on a synthesiser. Notes that neither end nor are struck again are left out, and so are notes of no
length.
"""

from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.midi.smf import Layout, RawTrack, layout, read_track
from pipeline.midi.song import NEVER, Notes, Song, Track
from pipeline.midi.symusic_reader import read_plain
from pipeline.midi.tempo import Clock, FrameClock, TempoMap
from pipeline.rejects import Rejected

if TYPE_CHECKING:
    from data_specs.spec import Limits


def read_song(content: bytes, limits: "Limits") -> Song:
    """Read a MIDI file. The same bytes give the same song on every machine, and the same rejection.

    Raises:
        Rejected: it is no MIDI file, holds no notes, or is beyond a limit (bytes, events, notes, largest tick).
    """
    check_size(content, limits)
    plan = layout(content)
    if not plan.tracks:
        raise Rejected("no tracks", "a header without track chunks")
    return _read_fast(content, plan, limits) or _read_around_damage(content, plan, limits)


def check_size(content: bytes, limits: "Limits") -> None:
    """Raise Rejected if the file is larger than a MIDI file may be."""
    if len(content) > limits.file_bytes:
        raise Rejected("file too large", f"{len(content)} bytes, at most {limits.file_bytes}")


def _read_fast(content: bytes, plan: Layout, limits: "Limits") -> Song | None:
    tracks = read_plain(content, plan, limits)
    return None if tracks is None else _song(tracks, limits, ())


def _read_around_damage(content: bytes, plan: Layout, limits: "Limits") -> Song:
    mended = set(plan.mended)
    left = limits.events
    raw = []
    for begin, end in plan.tracks:
        raw.append(read_track(content[begin:end], left, mended))
        left -= raw[-1].events
    clocks = _clocks(plan, raw)
    tracks = [(notes, clock) for track, clock in zip(raw, clocks, strict=True) for notes in _instruments(track)]
    return _song(tracks, limits, tuple(sorted(mended)))


def _clocks(plan: Layout, tracks: list[RawTrack]) -> list[Clock]:
    """The clock of each track: one for all, but in format 2, where every track is a piece of its own."""
    if plan.tick_s is not None:
        return [FrameClock(plan.tick_s)] * len(tracks)
    if plan.format == 2:
        return [TempoMap(track.tempos, plan.ticks_per_quarter) for track in tracks]
    return [TempoMap([tempo for track in tracks for tempo in track.tempos], plan.ticks_per_quarter)] * len(tracks)


def _instruments(track: RawTrack) -> list[Notes]:
    """The notes of a track chunk by (channel, program), in this order."""
    if not track.notes:
        return []
    notes = np.array(track.notes, dtype=np.int64)
    owner = notes[:, 2] * 128 + notes[:, 3]
    parts = []
    for key in np.unique(owner).tolist():
        start, end, _, _, pitch, velocity = notes[owner == key].T
        parts.append(Notes(key % 128, key // 128 == 9, track.name, start, end, pitch, velocity))
    return parts


def _song(tracks: list[tuple[Notes, Clock]], limits: "Limits", mended: tuple[str, ...]) -> Song:
    """Let the notes sound, convert to seconds; check what the limits say about notes."""
    kept = [(_sounding(notes), clock) for notes, clock in tracks]
    kept = [(notes, clock) for notes, clock in kept if len(notes.pitch)]
    count = sum(len(notes.pitch) for notes, _ in kept)
    if not count:
        raise Rejected("no notes", "no track has a note that begins and ends")
    # promise: rejected-size-first-same
    if count > limits.notes:
        raise Rejected("too many notes", f"{count}, at most {limits.notes}")
    largest = max(int(notes.end_tick.max()) for notes, _ in kept)
    if largest > limits.largest_tick:
        raise Rejected("ticks too large", f"a note ends at tick {largest}, at most {limits.largest_tick}")
    made = tuple(_track(index, notes, clock) for index, (notes, clock) in enumerate(kept))
    return Song(made, max(float(track.end_s.max()) for track in made), mended)


def _sounding(notes: Notes) -> Notes:
    """Notes as they sound, sorted: each up to the next tick at which one of its pitch begins or ends.

    Notes of no length count for nothing; those with no such tick are left out.
    """
    pitch, start, end = notes.pitch, notes.start_tick, notes.end_tick
    kept = start != end
    base = np.int64(1) << 52  # above any tick, so that (pitch, tick) is one number
    edges = np.concatenate([pitch[kept] * base + start[kept], (pitch * base + end)[kept & (end != NEVER)]])
    edges.sort()
    after = np.searchsorted(edges, pitch * base + start, side="right")
    edges = np.append(edges, base * 128)
    end = edges[after] - pitch * base
    order = np.lexsort((notes.velocity, end, pitch, start))
    order = order[(kept & (end < base))[order]]
    return Notes(*notes[:3], start[order], end[order], pitch[order], notes.velocity[order])


def _track(index: int, notes: Notes, clock: Clock) -> Track:
    return Track(
        index=index,
        program=int(notes.program),
        is_drum=bool(notes.is_drum),
        name=notes.name,
        start_tick=notes.start_tick,
        end_tick=notes.end_tick,
        start_s=clock(notes.start_tick),
        end_s=clock(notes.end_tick),
        pitch=notes.pitch.astype(np.int16),
        velocity=notes.velocity.astype(np.int16),
    )


def read_packed(content: bytes, limits: dict[str, Any]) -> bytes:
    """`read_song` for a child process: limits as JSON, the song packed."""
    from data_specs.spec import Limits

    return read_song(content, Limits(**limits)).pack()


class SandboxedReader:
    """`read_song` in a child process that is replaced when a file makes it hang, swell or die."""

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
            Rejected: as `read_song`, or `timeout`, `memory` or `crash` where the net had to catch it, twice.
        """
        check_size(content, self.limits)
        packed = self._sandbox.call(content)
        try:
            return Song.unpack(packed)
        except ValueError as error:
            raise Rejected("crash", f"the reader's answer is {error}") from error

    def close(self) -> None:
        """End the child process."""
        self._sandbox.close()

    def __enter__(self) -> "SandboxedReader":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

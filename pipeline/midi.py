"""From the bytes of a MIDI file to a song, fast where the file is sound and around the damage where it is not.

Sound files go to symusic, a compiled reader. It is given only what follows the standard's grammar to the letter, for
elsewhere it misreads (its ticks wrap at 32 bits, it takes an F7 event for a single byte and a system event for a
running status, it reads past the end of a short tempo event). All others, and what it refuses, are read by
`pipeline.smf`. Which of the two has read a file does not show in the song.
"""

import re
import struct
from collections.abc import Sequence
from fractions import Fraction
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from pipeline.rejects import Rejected
from pipeline.smf import Layout, RawTrack, layout, read_track, variable_length
from pipeline.song import Song, Track

if TYPE_CHECKING:
    from data_specs.spec import Limits

_DEFAULT_TEMPO = 500_000  # microseconds a quarter note
_SMALLEST_EVENT = 2  # bytes: a delta time and a data byte under running status
_PADDING = bytes(16)  # symusic may look a few bytes past the end of the last track
# A sound track by the grammar of the standard: delta times of at most four bytes, channel events with their runs.
_DELTA = rb"[\x80-\xff]{0,3}+[\x00-\x7f]"
_CHANNEL_EVENTS = re.compile(
    rb"(?:%(delta)b[\x80-\xbf\xe0-\xef][\x00-\x7f]{2}(?:%(delta)b[\x00-\x7f]{2})*+"
    rb"|%(delta)b[\xc0-\xdf][\x00-\x7f](?:%(delta)b[\x00-\x7f])*+)*+" % {b"delta": _DELTA}
)
_OTHER_EVENT = re.compile(_DELTA + rb"(?:\xff([\x00-\x7f])|\xf0)")


class Notes(NamedTuple):
    """The notes of one track before their times are known in seconds: int64 columns of shape [n]."""

    program: int
    is_drum: bool
    name: str
    start_tick: np.ndarray
    end_tick: np.ndarray
    pitch: np.ndarray
    velocity: np.ndarray


class TempoMap:
    """Seconds of ticks, from the tempo events of all tracks.

    Where several fall on one tick the last counts, by track, then by place in the track. An event of 0 microseconds
    has no meaning and is passed over.
    """

    def __init__(self, tempos: Sequence[tuple[int, int]] | np.ndarray, ticks_per_quarter: int) -> None:
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

    def __call__(self, ticks: np.ndarray) -> np.ndarray:
        """Ticks int64 [n] to seconds float64 [n]."""
        at = np.searchsorted(self.ticks, ticks, side="right") - 1
        return self.seconds[at] + (ticks - self.ticks[at]) * self.tick_s[at]


class FrameClock:
    """Seconds of ticks where a tick is a fixed part of an SMPTE frame: tempo events do not count."""

    def __init__(self, tick_s: Fraction) -> None:
        self.tick_s = tick_s

    def __call__(self, ticks: np.ndarray) -> np.ndarray:
        """Ticks int64 [n] to seconds float64 [n]."""
        return ticks * self.tick_s.numerator / self.tick_s.denominator


Clock = TempoMap | FrameClock


def read_song(content: bytes, limits: "Limits") -> Song:
    """Read a MIDI file. The same bytes give the same song on every machine, and the same rejection.

    Raises:
        Rejected: it is no MIDI file, holds no notes, or is beyond a limit (bytes, events, notes, largest tick).
    """
    check_size(content, limits)
    plan = layout(content)
    if not plan.tracks:
        raise Rejected("no tracks", "a header without track chunks")
    song = _read_fast(content, plan, limits) if _is_plain(content, plan, limits) else None
    return song or _read_around_damage(content, plan, limits)


def check_size(content: bytes, limits: "Limits") -> None:
    """Raise Rejected if the file is larger than a MIDI file may be."""
    if len(content) > limits.file_bytes:
        raise Rejected("file too large", f"{len(content)} bytes, at most {limits.file_bytes}")


def _is_plain(content: bytes, plan: Layout, limits: "Limits") -> bool:
    """Whether symusic can be relied on: nothing odd in the file, and its size alone keeps it within the limits."""
    if plan.format > 1 or plan.tick_s is not None or plan.mended:
        return False
    if sum(end - begin for begin, end in plan.tracks) > _SMALLEST_EVENT * limits.events:
        return False
    return _ticks_fit(content) and all(_is_plain_track(content, begin, end) for begin, end in plan.tracks)


def _ticks_fit(content: bytes) -> bool:
    """Whether no sum of delta times can pass 31 bits.

    The bound adds up all bytes below 128, each with the bytes above 127 before it, as if each ended a delta time.
    """
    array = np.frombuffer(content, np.uint8)
    value = (array & 0x7F).astype(np.int64)
    high = array > 0x7F
    bound, ends = int(value[~high].sum()), ~high
    for shift in (1, 2, 3):
        ends = ends[1:] & high[:-shift]
        bound += int(value[:-shift][ends].sum()) << (7 * shift)
    return bound < 2**31


def _is_plain_track(content: bytes, begin: int, end: int) -> bool:
    """Whether a track chunk follows the standard's grammar up to its end: no other system events than exclusive ones,
    no running status across these and meta events, tempos of three bytes."""
    position = begin
    while True:
        channel_events = _CHANNEL_EVENTS.match(content, position, end)
        assert channel_events  # it may be empty
        position = channel_events.end()
        if position == end:
            return True
        other = _OTHER_EVENT.match(content, position, end)
        if not other:
            return False
        if other[1] == b"\x2f":
            return True
        try:
            length, position = variable_length(content, other.end())
        except IndexError:
            return False
        position += length
        if position > end or (other[1] == b"\x51" and length != 3):
            return False


def _read_fast(content: bytes, plan: Layout, limits: "Limits") -> Song | None:
    """The song as symusic reads it; None where it refuses, or a name or the order of tempo events is lost in it."""
    import symusic

    header = struct.pack(">4sIHHH", b"MThd", 6, plan.format, len(plan.tracks), plan.ticks_per_quarter)
    try:
        score = symusic.Score.from_midi(header + content[14:] + _PADDING)
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
    for track in score.tracks:
        columns = {key: column.astype(np.int64) for key, column in track.notes.numpy().items()}
        ends = columns["time"] + columns["duration"]
        notes = Notes(
            track.program, track.is_drum, track.name, columns["time"], ends, columns["pitch"], columns["velocity"]
        )
        tracks.append((notes, clock))
    return _song(tracks, limits, ())


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
    """Leave out notes of no length, sort, convert to seconds; check what the limits say about notes."""
    kept = [(_sorted_notes(notes), clock) for notes, clock in tracks]
    kept = [(notes, clock) for notes, clock in kept if len(notes.pitch)]
    count = sum(len(notes.pitch) for notes, _ in kept)
    if not count:
        raise Rejected("no notes", "no track has a note that begins and ends")
    if count > limits.notes:
        raise Rejected("too many notes", f"{count}, at most {limits.notes}")
    largest = max(int(notes.end_tick.max()) for notes, _ in kept)
    if largest > limits.largest_tick:
        raise Rejected("ticks too large", f"a note ends at tick {largest}, at most {limits.largest_tick}")
    made = tuple(_track(index, notes, clock) for index, (notes, clock) in enumerate(kept))
    return Song(made, max(float(track.end_s.max()) for track in made), mended)


def _sorted_notes(notes: Notes) -> Notes:
    order = np.lexsort((notes.velocity, notes.end_tick, notes.pitch, notes.start_tick))
    order = order[notes.end_tick[order] > notes.start_tick[order]]
    return Notes(*notes[:3], *(column[order] for column in notes[3:]))


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
            "pipeline.midi:read_packed",
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

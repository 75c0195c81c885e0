"""From the bytes of a MIDI file to a song, fast where the file is sound and around the damage where it is not.

Sound files go to symusic, a compiled reader. It is trusted only where it is known to read as `pipeline.smf` does:
`_is_plain` keeps from it what it is known to misread (its ticks wrap at 32 bits, it takes an F7 event for a single byte
and a system exclusive event for a running status, it reads past the end of a short tempo event), and whatever it refuses is read by `pipeline.smf` as well. Which of
the two has read a file does not show in the song.
"""

import re
import struct
from collections.abc import Sequence
from fractions import Fraction
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from pipeline.rejects import Rejected
from pipeline.smf import Layout, RawTrack, layout, read_track
from pipeline.song import Song, Track

if TYPE_CHECKING:
    from data_specs.spec import Limits

_DEFAULT_TEMPO = 500_000  # microseconds a quarter note
_SMALLEST_EVENT = 2  # bytes: a delta time and a data byte under running status
_PADDING = bytes(16)  # symusic looks a few bytes past the end of a cut track
_TEMPO_EVENT = re.compile(rb"\xff\x51\x03[\s\S]{3}")
_NO_TEMPO = b"\xff\x51\x03\x00\x00\x00"
# A delta time and a data byte: an event under running status.
_RUNNING = re.compile(rb"[\x80-\xff]{0,3}[\x00-\x7f][\x00-\x7f]")
_MISREAD = re.compile(
    rb"[\x00-\x7f]\xf7"
    + _RUNNING.pattern
    + rb"|[\x00-\x7f]\xf0[\x80-\xff]{2}|[\x80-\xff]{4}[\xf0\xf7]|\xff\x51(?!\x03)"
)


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
    probe = _TEMPO_EVENT.sub(_NO_TEMPO, content) + _PADDING  # tempos are any bytes
    return not _MISREAD.search(probe) and _ticks_fit(probe) and _plain_exclusives(probe)


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


def _plain_exclusives(content: bytes) -> bool:
    """Whether every F7 ends a system exclusive event, and no event under running status follows one without F7.

    A status byte stands behind a delta time, whose last byte is below 128; other F0 and F7 belong to delta times.
    """
    array = np.frombuffer(content, np.uint8).astype(np.int64)
    is_status = np.append(False, array[:-1] < 0x80)
    is_status[-len(_PADDING) :] = False
    begins = np.flatnonzero((array == 0xF0) & is_status)
    is_long = array[begins + 1] > 0x7F  # the length takes two bytes
    ends = begins + np.where(is_long, 2 + ((array[begins + 1] & 0x7F) << 7) + array[begins + 2], 1 + array[begins + 1])
    terminators = np.flatnonzero((array == 0xF7) & is_status)
    if not np.isin(terminators, ends).all():
        return False
    return not any(_RUNNING.match(content, end + 1) for end in np.setdiff1d(ends, terminators).tolist())


def _read_fast(content: bytes, plan: Layout, limits: "Limits") -> Song | None:
    """The song as symusic reads it; None where it refuses, or the order of its tempo events is lost."""
    import symusic

    header = struct.pack(">4sIHHH", b"MThd", 6, plan.format, len(plan.tracks), plan.ticks_per_quarter)
    try:
        score = symusic.Score.from_midi(header + content[14:] + _PADDING)
    except MemoryError:
        raise
    except Exception:  # it raises several types, none of its own
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

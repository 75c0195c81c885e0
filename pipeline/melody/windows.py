"""Windows: stretches of a melody as long as a clip.

Times are counted from the first note of the window and rounded to blocks of the synthesizer (64 samples). A repeated
phrase therefore gives the same notes wherever in the song it occurs.

Windows are compared by hashes of 8 bytes. Among the 2e7 windows of a dataset of 180 000 songs, two different ones share
a hash with a probability of 1e-5. The dataset would then have one window fewer.
"""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from data_specs.arrays import Int32, Int64
from data_specs.spec import SYNTH_BLOCK, ClipSpec
from pipeline.melody.skyline import UNITS, Melody, Rejection, melodies

if TYPE_CHECKING:
    from pipeline.midi.song import Song

TIE = 8  # 1/1000 samples by which rounding prefers the later block, so that float rounding of tempos decides no tie

ONSET, OFFSET, PITCH, VELOCITY = range(4)  # columns of a window's notes

Notes = Int32


@dataclass(frozen=True)
class Window:
    """A stretch of a melody as long as a clip.

    Attributes:
        track: index of the track in its song.
        start_tick: tick of the first note; it identifies the window within its track.
        notes: int32 [n, 4]. Columns: onset and offset in samples from the first onset, multiples of 64, at most the
            length of the clip; MIDI pitch and velocity as in the file.
    """

    track: int
    start_tick: int
    notes: Notes


def song_windows(song: "Song", clip: ClipSpec) -> tuple[list[Window], list[Rejection]]:
    """Return the candidate windows of a song, sorted by track and start tick, and the rejected tracks and windows.

    A rejection is (reason, place in the song).
    """
    lines, rejections = melodies(song, clip)
    found: list[Window] = []
    for melody in lines:
        accepted, rejected = windows(melody, clip)
        found += accepted
        rejections += rejected
    return sorted(found, key=lambda window: (window.track, window.start_tick)), rejections


def windows(melody: Melody, clip: ClipSpec) -> tuple[list[Window], list[Rejection]]:
    """Return the windows of a melody that can become clips, and a rejection for each other window.

    The first window starts at the first note. Each further one starts at the first note at or after the end of the
    window before, so windows never overlap. A rejection is (reason, place in the song).
    """
    first = _window_starts(melody.onset.tolist(), clip.samples * UNITS)
    notes, last = _window_notes(melody, first, clip)
    found: list[Window] = []
    rejections: list[Rejection] = []
    for start, stop, tick in zip(first.tolist(), last.tolist(), melody.tick[first].tolist(), strict=True):
        window = notes[start:stop]
        if reason := rejection_reason(window, clip):
            rejections.append((reason, f"track {melody.track}, tick {tick}"))
        else:
            found.append(Window(melody.track, tick, window))
    return found, rejections


def _window_starts(onset: Sequence[int], length: int) -> Int64:
    """Return for each window, in time order, the index of its first note, int64 [windows].

    Args:
        onset: onsets of all notes of a melody, sorted, in 1/1000 samples.
        length: length of a window in 1/1000 samples.
    """
    starts = []
    start = 0
    while start < len(onset):
        starts.append(start)
        start = bisect_left(onset, onset[start] + length, start)
    return np.array(starts, np.int64)


def _window_notes(melody: Melody, first: Int64, clip: ClipSpec) -> tuple[Notes, Int64]:
    """Return the notes of all windows with times rounded to blocks and cut at the end of their window.

    A last note that leaves less than `min_rest_samples` to the end of the window is extended to that end.

    Args:
        first: index of the first note of each window.

    Returns:
        All notes of the melody, int32 [n, 4], with times in samples from the start of their window; and `last`, the end
        of each window: window i has the rows first[i] to last[i] (exclusive), without a last note that the cut made
        shorter than `min_note_samples`.
    """
    following = np.append(first[1:], len(melody.onset))
    origin = np.repeat(melody.onset[first], following - first)
    notes = np.empty((len(melody.onset), 4), np.int32)
    notes[:, ONSET] = _to_blocks(melody.onset - origin)
    notes[:, OFFSET] = np.minimum(_to_blocks(melody.offset - origin), clip.samples)
    notes[:, PITCH], notes[:, VELOCITY] = melody.pitch, melody.velocity
    # The limits on notes and rests are whole blocks, below which rounding cannot lead. Only the cut can make a
    # note, the last one, too short.
    end = following - 1
    last = following - (notes[end, OFFSET] - notes[end, ONSET] < clip.min_note_samples)
    end = last[last > first] - 1
    notes[end, OFFSET] = np.where(
        clip.samples - notes[end, OFFSET] < clip.min_rest_samples, clip.samples, notes[end, OFFSET]
    )
    return notes, last


def _to_blocks(units: Int64) -> Int64:
    block = SYNTH_BLOCK * UNITS
    # promise: note-times-integers-synthesiser
    return (units + block // 2 + TIE) // block * SYNTH_BLOCK


def rejection_reason(notes: Notes, clip: ClipSpec) -> str | None:
    """Return the reason for which a window of notes [n, 4] cannot become a clip, None if it can.

    It has too few notes, rests for too large a share of the clip, or has too few pitch classes, by the limits in
    `clip`. Of several reasons the first in this order is returned.
    """
    if len(notes) < clip.min_notes:
        return "window of few notes"
    sounding = int((notes[:, OFFSET] - notes[:, ONSET]).sum())
    if clip.samples - sounding > clip.max_rest_share * clip.samples:
        return "window mostly rest"
    if len(set((notes[:, PITCH] % 12).tolist())) < clip.min_pitch_classes:
        return "window of few pitches"
    return None


def fingerprint(notes: Notes, first: int) -> int:
    """Return a hash (64 bits) of the melodic contour of a window's first `first` notes.

    It is equal for the same tune in another key or tempo. It covers the intervals in semitones and the ratios of
    successive times between onsets. Ratios are rounded to powers of the square root of 2, so uneven playing has no
    effect, while 3:2, 2:1 and 3:1 differ from their inverses. Note lengths do not count. The number of notes is fixed
    because the tempo decides how many fit into a window.
    """
    # promise: song-s-side-hash-2
    intervals = _differences(notes[:first, PITCH])
    ratios = np.rint(_differences(2 * np.log2(_differences(notes[:first, ONSET]))))
    return _hash8(np.concatenate([intervals, ratios]).astype("<i2").tobytes())


def repeat_key(notes: Notes) -> int:
    """Return a hash (64 bits) of a window's onsets, offsets and intervals between successive pitches.

    It is equal for windows that differ only in key and loudness. Key shifts and the octave move could turn such windows
    into equal clips.
    """
    timing = notes[:, ONSET : OFFSET + 1]
    intervals = _differences(notes[:, PITCH])
    return _hash8(timing.astype("<i4").tobytes() + intervals.astype("<i4").tobytes())


def _hash8(content: bytes) -> int:
    return int.from_bytes(blake2b(content, digest_size=8).digest(), "little")


def _differences(values: NDArray[Any]) -> NDArray[Any]:
    return np.asarray(values[1:] - values[:-1])  # np.diff is slower, which shows at 1e7 windows

"""Melodies: reduction of a track to one line of notes.

A track may hold chords, several voices, overlapping notes and ornaments. `skyline` keeps the highest note of a chord,
the upper of two voices, and in legato playing every note. The name is from Uitdenbogerd and Zobel, "Melodic matching
techniques for large music databases", ACM Multimedia 1999. In their algorithm the higher note always prevails, so a
falling legato note starts late; the rule on overlaps here avoids that.

Times within a melody are integers in units of 1/1000 sample.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from data_specs.arrays import Int64
from data_specs.spec import SYNTH_BLOCK, ClipSpec

if TYPE_CHECKING:
    from pipeline.midi.song import Song, Track

UNITS = 1000  # per sample
CHORD_SAMPLES = 9 * SYNTH_BLOCK  # 24 ms: simultaneous notes that start within this time form a chord
UNPITCHED_PROGRAMS = frozenset((113, *range(115, 128)))  # agogo; woodblock to gunshot: percussion and noise

Rejection = tuple[str, str]  # reason, and the place in the song


@dataclass(frozen=True)
class Melody:
    """Notes of a track, one at a time: `offset[i] <= onset[i + 1]`. All arrays are int64 [n].

    Attributes:
        track: index of the track in its song.
        tick: tick at which each note starts.
        onset, offset: times in 1/1000 samples from the start of the song.
        pitch, velocity: as in the file, 0..127 and 1..127.
    """

    track: int
    tick: Int64
    onset: Int64
    offset: Int64
    pitch: Int64
    velocity: Int64


def melodies(song: "Song", clip: ClipSpec) -> tuple[list[Melody], list[Rejection]]:
    """Return the melodies of a song, at most one per track, and a rejection for each track without a melody.

    Rejected are drum tracks, tracks of unpitched programs, and those whose melody has fewer than `clip.min_notes`
    notes. A rejection is (reason, place in the song).
    """
    found: list[Melody] = []
    rejections: list[Rejection] = []
    for track in song.tracks:
        where = f"track {track.index}"
        if track.is_drum:
            rejections.append(("drum track", where))
        elif track.program in UNPITCHED_PROGRAMS:
            rejections.append(("unpitched track", f"{where}, program {track.program}"))
        else:
            melody = _melody(track, clip)
            if len(melody.onset) < clip.min_notes:
                rejections.append(("track of few notes", where))
            else:
                found.append(melody)
    return found, rejections


def _melody(track: "Track", clip: ClipSpec) -> Melody:
    rate = clip.sample_rate * UNITS
    onset = np.floor(track.start_s * rate + 0.5).astype(np.int64)
    offset = np.floor(track.end_s * rate + 0.5).astype(np.int64)
    # A missing note-off must not let one note hide the rest of the track.
    offset = np.minimum(offset, onset + clip.samples * UNITS)
    # An ornament shorter than a control frame would only cut the note before it.
    audible = np.flatnonzero(offset - onset >= clip.min_note_samples * UNITS)
    audible = audible[np.lexsort((-track.pitch[audible].astype(np.int64), onset[audible]))]
    start, end = onset[audible], offset[audible]
    chosen = audible
    if (start[1:] < end[:-1]).any():  # else the track is monophonic
        kept, ends = skyline(start.tolist(), end.tolist(), track.pitch[audible].tolist())
        chosen, start, end = audible[kept], start[kept], np.array(ends, np.int64)
    long_enough = end - start >= clip.min_note_samples * UNITS
    chosen, start, end = chosen[long_enough], start[long_enough], end[long_enough]
    return Melody(
        track=track.index,
        tick=np.asarray(track.start_tick, np.int64)[chosen],
        onset=start,
        offset=_close_short_rests(start, end, clip.min_rest_samples * UNITS),
        pitch=track.pitch[chosen].astype(np.int64),
        velocity=track.velocity[chosen].astype(np.int64),
    )


def skyline(onset: Sequence[int], offset: Sequence[int], pitch: Sequence[int]) -> tuple[list[int], list[int]]:
    """Return the indices of the notes that are kept as the upper line, and the time at which each of them then ends.

    A note that starts while the last kept note still sounds is treated by the first of these rules that applies:

    - Legato, if the overlap is at most half of the shorter note: both are kept, the earlier one ends where this starts.
    - Chord, if both start within 24 ms: only the higher note is kept, of equal pitches the earlier one.
    - Otherwise this note is dropped if it is lower; if not, both are kept and the earlier one ends where this starts.

    Args:
        onset, offset, pitch: all notes, times in 1/1000 samples; sorted by onset, notes of one onset by falling pitch.
    """
    kept: list[int] = []
    ends: list[int] = []
    for i, (start, end) in enumerate(zip(onset, offset, strict=True)):
        if kept and start < ends[-1]:
            last = kept[-1]
            shared = min(end, ends[-1]) - start
            if 2 * shared > min(end - start, ends[-1] - onset[last]):
                chord = start - onset[last] <= CHORD_SAMPLES * UNITS
                if pitch[i] < pitch[last] or (chord and pitch[i] == pitch[last]):
                    continue
                if chord:
                    kept[-1], ends[-1] = i, end
                    continue
            ends[-1] = start
        kept.append(i)
        ends.append(end)
    return kept, ends


def _close_short_rests(onset: Int64, offset: Int64, shortest: int) -> Int64:
    """Return a copy of `offset` in which a note ends at the next onset if the rest between them is below `shortest`.

    So short a rest is articulation. All times are in 1/1000 samples; the arrays are [n].
    """
    closed = offset.copy()
    rest = onset[1:] - offset[:-1]
    closed[:-1] = np.where(rest < shortest, onset[1:], offset[:-1])
    return closed

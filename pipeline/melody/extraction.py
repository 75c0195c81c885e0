"""From a track of a song to one melodic line, and from the line to windows of one clip's length.

A track may hold chords, held notes over moving ones, overlaps and ornaments. `skyline` keeps what a listener would
sing: the top of a chord, the upper voice above what lies beneath it, and in legato playing every note from where it
starts. (The name is Uitdenbogerd and Zobel's, "Melodic matching techniques for large music databases", ACM Multimedia
1999; they let the higher note win always, which delays every falling legato note: the overlap rule is what differs.)

Time inside a melody is an integer number of 1/1000 samples; a window rounds it, counted from its own first note, to the
synthesizer's blocks. So a phrase that returns gives the same notes wherever in the song it stands.
"""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from data_specs.spec import SYNTH_BLOCK, Clip

if TYPE_CHECKING:
    from pipeline.midi.song import Song, Track

UNITS = 1000  # of a melody's time in a sample
CHORD_SAMPLES = 9 * SYNTH_BLOCK  # 24 ms: notes that sound together and start within this are one chord
TIE = 8  # units by which rounding prefers the later block: ties must not depend on the float arithmetic of tempo maps
UNPITCHED_PROGRAMS = frozenset((113, *range(115, 128)))  # agogo; woodblock to gunshot: struck or noise, no melody

ONSET, OFFSET, PITCH, VELOCITY = range(4)  # columns of a window's notes

Int64 = NDArray[np.int64]
Notes = NDArray[np.int32]
Fault = tuple[str, str]  # named reason, where


@dataclass(frozen=True)
class Melody:
    """One note at a time: `offset[i] <= onset[i + 1]`, in 1/1000 samples from the song's start; arrays are [n]."""

    track: int
    tick: Int64
    onset: Int64
    offset: Int64
    pitch: Int64
    velocity: Int64


@dataclass(frozen=True)
class Window:
    """A stretch of a melody of one clip's length.

    `notes` is int32 [n, 4]: onset, offset (samples from the first onset, multiples of 64), pitch, velocity of the file.
    `start_tick` is the tick of the first note and names the window within its track.
    """

    track: int
    start_tick: int
    notes: Notes


def melodies(song: "Song", clip: Clip) -> tuple[list[Melody], list[Fault]]:
    """The melodic lines of a song, one a pitched track, and the tracks that gave none with the reason."""
    found: list[Melody] = []
    faults: list[Fault] = []
    for track in song.tracks:
        where = f"track {track.index}"
        if track.is_drum:
            faults.append(("drum track", where))
        elif track.program in UNPITCHED_PROGRAMS:
            faults.append(("unpitched track", f"{where}, program {track.program}"))
        else:
            melody = _melody(track, clip)
            if len(melody.onset) < clip.min_notes:
                faults.append(("track of few notes", where))
            else:
                found.append(melody)
    return found, faults


def _melody(track: "Track", clip: Clip) -> Melody:
    rate = clip.sample_rate * UNITS
    onset = np.floor(track.start_s * rate + 0.5).astype(np.int64)
    offset = np.floor(track.end_s * rate + 0.5).astype(np.int64)
    # A note-off that never came must not hide the rest of the track under one note.
    offset = np.minimum(offset, onset + clip.samples * UNITS)
    # Ornaments too short for a frame of the controls would only cut their neighbours.
    heard = np.flatnonzero(offset - onset >= clip.min_note_samples * UNITS)
    heard = heard[np.lexsort((-track.pitch[heard].astype(np.int64), onset[heard]))]
    start, end = onset[heard], offset[heard]
    chosen = heard
    if (start[1:] < end[:-1]).any():  # else the track is one line already
        kept, ends = skyline(start.tolist(), end.tolist(), track.pitch[heard].tolist())
        chosen, start, end = heard[kept], start[kept], np.array(ends, np.int64)
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
    """Indices of the notes of the upper line, and where each of them ends.

    A note that starts while the last one kept still sounds
    - is its successor if the two share at most half of the shorter one: legato, the earlier ends where it starts;
    - else, both starting within 24 ms, is part of its chord: the higher of the two stays;
    - else takes over if it is not lower, and lies beneath the line, and is left out, if it is lower.

    Args:
        onset, offset (1/1000 samples), pitch: of all notes, sorted by onset and, at one onset, from the highest down.
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
    """Let a note ring until the next one where the rest between is shorter than `shortest`.

    Such gaps are articulation, not rests: onsets stay where they are, since a listener hears those first.
    """
    closed = offset.copy()
    rest = onset[1:] - offset[:-1]
    closed[:-1] = np.where(rest < shortest, onset[1:], offset[:-1])
    return closed


def windows(melody: Melody, clip: Clip) -> tuple[list[Window], list[Fault]]:
    """The windows of a melody that are good enough for a clip, and those that are not with the reason.

    A window starts at a note; the next one at the first note at or after its end, so windows never overlap.
    """
    first = _window_starts(melody.onset.tolist(), clip.samples * UNITS)
    notes, last = _window_notes(melody, first, clip)
    found: list[Window] = []
    faults: list[Fault] = []
    for start, stop, tick in zip(first.tolist(), last.tolist(), melody.tick[first].tolist(), strict=True):
        window = notes[start:stop]
        if reason := window_fault(window, clip):
            faults.append((reason, f"track {melody.track}, tick {tick}"))
        else:
            found.append(Window(melody.track, tick, window))
    return found, faults


def _window_starts(onset: Sequence[int], length: int) -> Int64:
    """Rows of the notes with which windows of `length` begin."""
    starts = []
    start = 0
    while start < len(onset):
        starts.append(start)
        start = bisect_left(onset, onset[start] + length, start)
    return np.array(starts, np.int64)


def _window_notes(melody: Melody, first: Int64, clip: Clip) -> tuple[Notes, Int64]:
    """All notes on the synthesizer's blocks, counted from their window's first and cut at its end, int32 [n, 4].

    Window i has the rows first[i] to last[i] (exclusive): one of its notes may have become too short by the cut.
    """
    following = np.append(first[1:], len(melody.onset))
    origin = np.repeat(melody.onset[first], following - first)
    notes = np.empty((len(melody.onset), 4), np.int32)
    notes[:, ONSET] = _to_blocks(melody.onset - origin)
    notes[:, OFFSET] = np.minimum(_to_blocks(melody.offset - origin), clip.samples)
    notes[:, PITCH], notes[:, VELOCITY] = melody.pitch, melody.velocity
    # Rounding keeps every length and rest of whole blocks, so only the last note can have become too short, by the cut.
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


def window_fault(notes: Notes, clip: Clip) -> str | None:
    """Why a window cannot be a clip, or None."""
    if len(notes) < clip.min_notes:
        return "window of few notes"
    sounding = int((notes[:, OFFSET] - notes[:, ONSET]).sum())
    if clip.samples - sounding > clip.max_rest_share * clip.samples:
        return "window mostly rest"
    if len(set((notes[:, PITCH] % 12).tolist())) < clip.min_pitch_classes:
        return "window of few pitches"
    return None

"""Transposition of a window into the pitch range of clips, and to pitches that a preset can play.

The range of clips is `lowest_pitch`..`highest_pitch` of ClipSpec, both included.
"""

import numpy as np

from data_specs.arrays import Bool, Int32
from data_specs.spec import ClipSpec
from pipeline.melody.windows import PITCH, Notes

OCTAVES = np.arange(-10, 11) * 12  # semitones: every octave move that can bring a MIDI pitch into any range
_MARGIN = 132  # pitches below 0 and above 127 that a key shift and an octave move can reach
_ORIGIN = _MARGIN - np.arange(12)[:, None] - OCTAVES  # index of pitch 0 before a shift (rows) and a move (columns)


def octave_move(pitch: Int32, clip: ClipSpec) -> int:
    """Return the move by whole octaves, in semitones, that leaves the fewest of `pitch` [n] out of the clip's range.

    Of several such moves it is the smallest; of one up and one down by the same amount, the one up.
    """
    moved = pitch[None, :] + OCTAVES[:, None]
    outside = ((moved < clip.lowest_pitch) | (moved > clip.highest_pitch)).sum(axis=1)
    moves = zip(outside.tolist(), OCTAVES.tolist(), strict=True)
    return min(moves, key=lambda move: (move[0], abs(move[1]), -move[1]))[1]


def folded_into_range(pitch: Int32, clip: ClipSpec) -> Int32:
    """Return int32 pitches [n]: those outside the clip's range are moved into it by as few octaves as possible."""
    up = -(-np.maximum(clip.lowest_pitch - pitch, 0) // 12)
    # promise: octave-move-leaves-fewest
    down = -(-np.maximum(pitch - clip.highest_pitch, 0) // 12)
    return np.asarray(pitch + 12 * (up - down), np.int32)


def fitting_keys(notes: Notes, clip: ClipSpec) -> int:
    """Return the key shifts of 0..11 semitones under which a window fits into the clip's range, as 12 bits.

    Bit c is set if, after a shift by c semitones and the best octave move, at most `clip.max_folded` times the number
    of notes are out of range. Shifts an octave apart are equivalent, since the octave move follows the shift.
    """
    below = np.cumsum(np.bincount(notes[:, PITCH] + _MARGIN, minlength=2 * _MARGIN + 128))
    inside = below[_ORIGIN + clip.highest_pitch] - below[_ORIGIN + clip.lowest_pitch - 1]  # [12, octaves]
    # promise: octave-move-leaves-fewest-2
    fits = len(notes) - inside.max(axis=1) <= clip.max_folded * len(notes)
    return int(fits @ (1 << np.arange(12)))


def transpose(notes: Notes, key_shift: int, clip: ClipSpec) -> tuple[Notes, int, int]:
    """Return a window [n, 4] shifted by `key_shift` semitones and moved by octaves into the clip's range.

    Returns:
        A copy of the notes [n, 4] with the new pitches; the octave move of the whole window in semitones; and the
        number of notes that were still out of range and were moved on their own by further octaves.
    """
    played = notes.copy()
    shifted = notes[:, PITCH] + key_shift
    octave = octave_move(shifted, clip)
    played[:, PITCH] = folded_into_range(shifted + octave, clip)
    return played, octave, int((played[:, PITCH] != shifted + octave).sum())


def fold_into_preset(notes: Notes, playable: Bool) -> tuple[Notes, int, int]:
    """Move notes [n, 4] by octaves to pitches that a preset plays.

    The whole window moves by the octaves that make most notes playable. Each note that is still not playable then moves
    to the nearest playable octave; if it has none, it gets back the pitch it had before the window moved. Of two equal
    moves the one up is taken.

    Args:
        playable: whether the preset plays each MIDI pitch, bool [128].

    Returns:
        The notes [n, 4]; the octave move of the window in semitones; and the number of notes moved otherwise. If all
        notes are playable at first, the notes are the same array. Otherwise they are a copy.
    """
    if playable[notes[:, PITCH]].all():
        return notes, 0, 0
    within = np.zeros(128 + 4 * _MARGIN, np.bool_)
    origin = 2 * _MARGIN  # of pitch 0: the move of the window and that of the note
    within[origin : origin + 128] = playable
    nearest_first = sorted(OCTAVES.tolist(), key=lambda move: (abs(move), -move))
    octave = max(nearest_first, key=lambda move: int(within[notes[:, PITCH] + origin + move].sum()))
    pitch = notes[:, PITCH] + octave
    plays = within[pitch[:, None] + origin + np.array(nearest_first)]  # [n, moves]
    # promise: unplayable-notes-move
    fold = np.array(nearest_first)[plays.argmax(axis=1)]  # 0 where no octave plays
    played = notes.copy()
    played[:, PITCH] = np.where(plays.any(axis=1), pitch + fold, notes[:, PITCH])
    return played, octave, int((played[:, PITCH] != pitch).sum())

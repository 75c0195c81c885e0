"""Transposition of a window into the clip's range."""

import numpy as np
from numpy.typing import NDArray

from data_specs.spec import ClipSpec
from pipeline.melody.windows import PITCH, Notes

OCTAVES = np.arange(-10, 11) * 12  # every move that can bring a MIDI pitch into any range
_MARGIN = 132  # on either side of the pitches, for every move and shift
_ORIGIN = _MARGIN - np.arange(12)[:, None] - OCTAVES  # index of pitch 0 before a shift (rows) and a move (columns)


def octave_move(pitch: NDArray[np.int32], clip: ClipSpec) -> int:
    """Return the move by whole octaves, in semitones, that leaves the fewest notes out of range.

    Among equals the smallest move is taken, upwards if tied.
    """
    moved = pitch[None, :] + OCTAVES[:, None]
    outside = ((moved < clip.lowest_pitch) | (moved > clip.highest_pitch)).sum(axis=1)
    moves = zip(outside.tolist(), OCTAVES.tolist(), strict=True)
    return min(moves, key=lambda move: (move[0], abs(move[1]), -move[1]))[1]


def folded_into_range(pitch: NDArray[np.int32], clip: ClipSpec) -> NDArray[np.int32]:
    """Move each out-of-range pitch [n] by the fewest octaves that bring it into range."""
    up = -(-np.maximum(clip.lowest_pitch - pitch, 0) // 12)
    # promise: octave-move-leaves-fewest
    down = -(-np.maximum(pitch - clip.highest_pitch, 0) // 12)
    return np.asarray(pitch + 12 * (up - down), np.int32)


def fitting_keys(notes: Notes, clip: ClipSpec) -> int:
    """Return 12 bits: bit c is set if the window shifted by c semitones needs at most a share `max_folded` folded.

    The octave move follows the shift, so shifts an octave apart are equivalent.
    """
    below = np.cumsum(np.bincount(notes[:, PITCH] + _MARGIN, minlength=2 * _MARGIN + 128))
    inside = below[_ORIGIN + clip.highest_pitch] - below[_ORIGIN + clip.lowest_pitch - 1]  # [12, octaves]
    # promise: octave-move-leaves-fewest-2
    fits = len(notes) - inside.max(axis=1) <= clip.max_folded * len(notes)
    return int(fits @ (1 << np.arange(12)))


def transpose(notes: Notes, key_shift: int, clip: ClipSpec) -> tuple[Notes, int, int]:
    """Move a window into the clip's key and range: notes [n, 4], octave move in semitones, number of folded notes."""
    played = notes.copy()
    shifted = notes[:, PITCH] + key_shift
    octave = octave_move(shifted, clip)
    played[:, PITCH] = folded_into_range(shifted + octave, clip)
    return played, octave, int((played[:, PITCH] != shifted + octave).sum())


def fold_into_preset(notes: Notes, playable: NDArray[np.bool_]) -> tuple[Notes, int, int]:
    """Move notes to pitches that a preset plays, bool [128]: notes [n, 4], octave move in semitones, number folded.

    The whole window moves by the octaves that leave the fewest notes out; each of those then takes the nearest octave
    that is playable. A note without any keeps its pitch. Upwards if tied.
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

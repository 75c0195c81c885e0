"""Which of all candidate windows become clips, and in which order: functions of arrays, one element or row a window.

The order is drawn from hashes of content and place. Cuts (windows known from train, repeats, a song's cap) are made on
all candidates before any clip is taken, so the plan is the same however many clips are asked for.
"""

import numpy as np
from numpy.typing import NDArray

from pipeline.melody.hashing import UInt64, combine

Bool = NDArray[np.bool_]
Int64 = NDArray[np.int64]


class KnownFingerprints:
    """Which fingerprints of valid windows occur in train too: 9 bytes for each different one of valid."""

    def __init__(self, valid: UInt64) -> None:
        self.values = np.unique(valid)
        self.known = np.zeros(len(self.values), np.bool_)

    def note_train(self, fingerprints: UInt64) -> None:
        """Mark those that occur among `fingerprints` of train windows."""
        self.known[self._rows(fingerprints)[1]] = True

    def is_known(self, fingerprints: UInt64) -> Bool:
        """Which of these occur in train, bool [n], for fingerprints of valid windows."""
        present, rows = self._rows(fingerprints)
        result = np.zeros(len(fingerprints), np.bool_)
        result[present] = self.known[rows]
        return result

    def _rows(self, fingerprints: UInt64) -> tuple[Bool, Int64]:
        """Which fingerprints are among the values, and the rows of those that are."""
        if not len(self.values):
            return np.zeros(len(fingerprints), np.bool_), np.zeros(0, np.int64)
        rows = np.minimum(np.searchsorted(self.values, fingerprints), len(self.values) - 1)
        present = self.values[rows] == fingerprints
        return present, rows[present]


def repeated(keys: UInt64, words: UInt64) -> Bool:
    """Which windows repeat one of the same key that has a smaller word, bool [n]: one of each key stays."""
    order = np.lexsort((words, keys))
    result = np.zeros(len(keys), np.bool_)
    # promise: song-gives-most-cap-2
    result[order[1:]] = keys[order[1:]] == keys[order[:-1]]
    return result


def variants(
    words: UInt64, fits: NDArray[np.uint16], key_shifts: NDArray[np.int64]
) -> tuple[Int64, Int64, Int64, UInt64]:
    """The (window, key shift) pairs that fit: window, index of the shift, turn and word of each.

    `turn` counts a window's fitting shifts from 0 in an order of its own; a plan sorted by turn brings every window
    once before any window comes again in another key. `word` orders the pairs of one turn.
    """
    allowed = (fits[:, None] >> (key_shifts % 12).astype(np.uint16)) & 1 == 1
    pair_words = combine(words[:, None], key_shifts[None, :])
    rank = np.lexsort((pair_words, ~allowed), axis=1)
    turns = np.empty_like(rank)
    np.put_along_axis(turns, rank, np.arange(len(key_shifts))[None, :], axis=1)
    window, shift = np.nonzero(allowed)
    return window, shift, turns[window, shift], pair_words[window, shift]


def within_cap(songs: NDArray[np.integer], turns: Int64, words: UInt64, cap: int) -> Bool:
    """Which pairs are among the first `cap` of their song in the order of (turn, word), bool [n]."""
    order = np.lexsort((words, turns, songs))
    sorted_songs = songs[order]
    place = np.arange(len(order)) - np.searchsorted(sorted_songs, sorted_songs)
    result = np.empty(len(order), np.bool_)
    # promise: song-gives-most-cap
    result[order] = place < cap
    return result


def plan_order(turns: NDArray[np.integer], words: UInt64) -> Int64:
    """The order of a split's clips: by turn, then by word."""
    # promise: plan-everything-after-same
    return np.lexsort((words, turns))

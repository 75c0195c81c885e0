"""Selection and order of clips: functions of arrays, one element or row per window.

The order is drawn from hashes of content and position. Windows known from train, repeats and the cap per song are
decided on all candidates, so the plan does not depend on the number of clips asked for.
"""

import numpy as np
from numpy.typing import NDArray

from data_specs.hashing import GOLDEN_GAMMA, UInt64, splitmix64

Bool = NDArray[np.bool_]
Int64 = NDArray[np.int64]
_MASK = (1 << 64) - 1


def song_keys(digests: list[str]) -> UInt64:
    """Return the first 8 bytes of each hexadecimal digest, uint64 [n]."""
    return np.array([int(digest[:16], 16) for digest in digests], np.uint64)


def is_valid(song: UInt64, valid_share: float) -> NDArray[np.bool_]:
    """Return which songs belong to the valid split, bool [n]: a function of their digest alone."""
    # promise: song-s-side-hash-3
    share = splitmix64(song + GOLDEN_GAMMA) >> np.uint64(11)  # 53 bits: exact as float64
    return np.asarray(share.astype(np.float64) / 2.0**53 < valid_share)


def window_keys(seed: int, song: UInt64, track: NDArray[np.integer], start_tick: NDArray[np.integer]) -> UInt64:
    """Hash the seed and each window's position, uint64 [n]; the order of the plan is drawn from these."""
    return combine(combine(combine(np.zeros_like(song), seed) ^ song, track), start_tick)


def combine(state: UInt64, value: NDArray[np.integer] | int) -> UInt64:
    """Extend the hash of a sequence by one element, elementwise over broadcast arrays."""
    word = np.full(1, value & _MASK, np.uint64) if isinstance(value, int) else value.astype(np.uint64)
    return splitmix64(state * GOLDEN_GAMMA + splitmix64(word + GOLDEN_GAMMA))


class KnownFingerprints:
    """Fingerprints of valid windows and whether each occurs in train: 9 bytes per distinct fingerprint."""

    def __init__(self, valid: UInt64) -> None:
        self.values = np.unique(valid)
        self.known = np.zeros(len(self.values), np.bool_)

    def add_train(self, fingerprints: UInt64) -> None:
        """Mark those that occur among `fingerprints` of train windows."""
        self.known[self._rows(fingerprints)[1]] = True

    def is_known(self, fingerprints: UInt64) -> Bool:
        """Return which fingerprints of valid windows occur in train, bool [n]."""
        present, rows = self._rows(fingerprints)
        result = np.zeros(len(fingerprints), np.bool_)
        result[present] = self.known[rows]
        return result

    def _rows(self, fingerprints: UInt64) -> tuple[Bool, Int64]:
        """Return which fingerprints are among the values, and their rows."""
        if not len(self.values):
            return np.zeros(len(fingerprints), np.bool_), np.zeros(0, np.int64)
        rows = np.minimum(np.searchsorted(self.values, fingerprints), len(self.values) - 1)
        present = self.values[rows] == fingerprints
        return present, rows[present]


def repeated(keys: UInt64, sort_keys: UInt64) -> Bool:
    """Return which windows repeat one of equal key and smaller sort key, bool [n]: one window per key is kept."""
    order = np.lexsort((sort_keys, keys))
    result = np.zeros(len(keys), np.bool_)
    # promise: song-gives-most-cap-2
    result[order[1:]] = keys[order[1:]] == keys[order[:-1]]
    return result


def variants(
    sort_keys: UInt64, fits: NDArray[np.uint16], key_shifts: NDArray[np.int64]
) -> tuple[Int64, Int64, Int64, UInt64]:
    """Return the fitting (window, key shift) pairs: window, index of the shift, variant rank and sort key of each.

    The variant rank numbers a window's fitting shifts from 0 in random order. A plan sorted by rank takes every window
    once before it takes any window in another key. The sort key orders the pairs of one rank.
    """
    allowed = (fits[:, None] >> (key_shifts % 12).astype(np.uint16)) & 1 == 1
    pair_keys = combine(sort_keys[:, None], key_shifts[None, :])
    order = np.lexsort((pair_keys, ~allowed), axis=1)
    ranks = np.empty_like(order)
    np.put_along_axis(ranks, order, np.arange(len(key_shifts))[None, :], axis=1)
    window, shift = np.nonzero(allowed)
    return window, shift, ranks[window, shift], pair_keys[window, shift]


def within_cap(songs: NDArray[np.integer], ranks: Int64, sort_keys: UInt64, cap: int) -> Bool:
    """Return which pairs are among the first `cap` of their song by (variant rank, sort key), bool [n]."""
    order = np.lexsort((sort_keys, ranks, songs))
    sorted_songs = songs[order]
    position = np.arange(len(order)) - np.searchsorted(sorted_songs, sorted_songs)
    result = np.empty(len(order), np.bool_)
    # promise: song-gives-most-cap
    result[order] = position < cap
    return result


def plan_order(ranks: NDArray[np.integer], sort_keys: UInt64) -> Int64:
    """Return the order of a split's clips: by variant rank, then by sort key."""
    # promise: plan-everything-after-same
    return np.lexsort((sort_keys, ranks))

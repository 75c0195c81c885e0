"""Selection and order of clips, as functions of arrays with one element per window, clip, or window with a key shift.

The order follows hashes of content and position. Which windows are known from train, repeated or over the cap of their
song is decided on all candidates, so the plan does not depend on the number of clips asked for.
"""

import numpy as np
from numpy.typing import NDArray

from data_specs.arrays import AnyInt, Bool, Int64
from data_specs.hashing import GOLDEN_GAMMA, UInt64, splitmix64

_MASK = (1 << 64) - 1


def song_keys(digests: list[str]) -> UInt64:
    """Return the key of each song, uint64 [n]: the number that the first 16 hexadecimal digits of its digest form."""
    return np.array([int(digest[:16], 16) for digest in digests], np.uint64)


def is_valid(song: UInt64, valid_share: float) -> Bool:
    """Return whether each song belongs to the valid split, bool [n]. It depends on the song's key alone.

    Args:
        song: keys of `song_keys`.
        valid_share: expected share of songs in the valid split.
    """
    # promise: song-s-side-hash-3
    share = splitmix64(song + GOLDEN_GAMMA) >> np.uint64(11)  # 53 bits: exact as float64
    return np.asarray(share.astype(np.float64) / 2.0**53 < valid_share)


def window_keys(seed: int, song: UInt64, track: AnyInt, start_tick: AnyInt) -> UInt64:
    """Return the sort key of each window, uint64 [n]: a hash of the seed, its song's key, its track and start tick."""
    return combine(combine(combine(np.zeros_like(song), seed) ^ song, track), start_tick)


def combine(state: UInt64, value: AnyInt | int) -> UInt64:
    """Return the hash of a sequence extended by `value`, from the hash `state` of the sequence so far.

    Elementwise over arrays, which are broadcast. Values are taken modulo 2^64.
    """
    word = np.full(1, value & _MASK, np.uint64) if isinstance(value, int) else value.astype(np.uint64)
    return splitmix64(state * GOLDEN_GAMMA + splitmix64(word + GOLDEN_GAMMA))


class KnownFingerprints:
    """The distinct fingerprints of the valid windows, and whether each occurs in train. 9 bytes each.

    At first none occurs in train; `add_train` adds the fingerprints of train.
    """

    def __init__(self, valid: UInt64) -> None:
        self.values = np.unique(valid)
        self.known = np.zeros(len(self.values), np.bool_)

    def add_train(self, fingerprints: UInt64) -> None:
        """Mark the fingerprints of valid windows that are among `fingerprints`, those of some train windows."""
        self.known[self._rows(fingerprints)[1]] = True

    def is_known(self, fingerprints: UInt64) -> Bool:
        """Return whether each of `fingerprints` [n] is of a valid window and was marked by `add_train`, bool [n]."""
        present, rows = self._rows(fingerprints)
        result = np.zeros(len(fingerprints), np.bool_)
        result[present] = self.known[rows]
        return result

    def _rows(self, fingerprints: UInt64) -> tuple[Bool, Int64]:
        """Return whether each fingerprint is one of `values`, bool [n], and the rows in `values` of those that are."""
        if not len(self.values):
            return np.zeros(len(fingerprints), np.bool_), np.zeros(0, np.int64)
        rows = np.minimum(np.searchsorted(self.values, fingerprints), len(self.values) - 1)
        present = self.values[rows] == fingerprints
        return present, rows[present]


def repeated(keys: UInt64, sort_keys: UInt64) -> Bool:
    """Return which windows to drop as repeats, bool [n].

    Of the windows with equal `keys` [n], all are dropped but the one with the smallest of `sort_keys` [n].
    """
    order = np.lexsort((sort_keys, keys))
    result = np.zeros(len(keys), np.bool_)
    # promise: song-gives-most-cap-2
    result[order[1:]] = keys[order[1:]] == keys[order[:-1]]
    return result


def variants(sort_keys: UInt64, fits: NDArray[np.uint16], key_shifts: Int64) -> tuple[Int64, Int64, Int64, UInt64]:
    """Return all pairs of a window and a key shift under which it fits the clip's range.

    Args:
        sort_keys: of the windows [n].
        fits: bits of `fitting_keys` for each window [n].
        key_shifts: semitones [k].

    Returns:
        For each of m pairs, [m]: its window, the index of its shift in `key_shifts`, its variant rank and its sort key.
        The rank numbers the fitting shifts of one window from 0 in random order. A plan sorted by rank therefore takes
        every window once before it takes any window in a second key. The sort key orders the pairs of one rank.
    """
    allowed = (fits[:, None] >> (key_shifts % 12).astype(np.uint16)) & 1 == 1
    pair_keys = combine(sort_keys[:, None], key_shifts[None, :])
    order = np.lexsort((pair_keys, ~allowed), axis=1)
    ranks = np.empty_like(order)
    np.put_along_axis(ranks, order, np.arange(len(key_shifts))[None, :], axis=1)
    window, shift = np.nonzero(allowed)
    return window, shift, ranks[window, shift], pair_keys[window, shift]


def within_cap(songs: AnyInt, ranks: Int64, sort_keys: UInt64, cap: int) -> Bool:
    """Return which pairs [n] are among the first `cap` of their song in the order of rank, then sort key, bool [n].

    Args:
        songs: index of the song of each pair [n].
        ranks, sort_keys: of each pair [n], as returned by `variants`.
    """
    order = np.lexsort((sort_keys, ranks, songs))
    sorted_songs = songs[order]
    position = np.arange(len(order)) - np.searchsorted(sorted_songs, sorted_songs)
    result = np.empty(len(order), np.bool_)
    # promise: song-gives-most-cap
    result[order] = position < cap
    return result


def plan_order(ranks: AnyInt, sort_keys: UInt64) -> Int64:
    """Return the order of the plan as indices [n] of a split's clips: sorted by variant rank, then by sort key."""
    # promise: plan-everything-after-same
    return np.lexsort((sort_keys, ranks))

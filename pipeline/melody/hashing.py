"""What names, sorts and compares windows and clips. Everything here depends on content alone, never on order or place.

Hashes of 8 bytes are enough: among the 2e7 windows of a data set of 180 000 songs, the chance that any two that differ
share one is 1e-5, and all that would happen is one window fewer.
"""

from hashlib import blake2b
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.melody.extraction import OFFSET, ONSET, PITCH, Notes

UInt64 = NDArray[np.uint64]

_MULTIPLIERS = (np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB))
_STEP = np.uint64(0x9E3779B97F4A7C15)
_MASK = (1 << 64) - 1


def _hash8(content: bytes) -> int:
    return int.from_bytes(blake2b(content, digest_size=8).digest(), "little")


def _steps(values: NDArray[Any]) -> NDArray[Any]:
    return np.asarray(values[1:] - values[:-1])  # np.diff, without a cost that shows at 1e7 windows


def fingerprint(notes: Notes, first: int) -> int:
    """A hash of how the first `first` notes go, the same in every key and tempo and for every articulation.

    It covers the intervals in semitones and the ratios of successive distances between onsets, rounded to half octaves
    (factors of the square root of 2): 1:1, dotted 3:2, 2:1 and 3:1 are told apart from their inverses, a performer's
    unevenness is not seen. A fixed number of notes makes it free of tempo, which decides how many fit into a window.
    """
    # promise: song-s-side-hash-2
    intervals = _steps(notes[:first, PITCH])
    ratios = np.rint(_steps(2 * np.log2(_steps(notes[:first, ONSET]))))
    return _hash8(np.concatenate([intervals, ratios]).astype("<i2").tobytes())


def repeat_key(notes: Notes) -> int:
    """A hash that two windows share when they are the same but for key and loudness.

    Key and loudness are free because clips change both: key shifts and the octave move would make such twins equal.
    """
    timing = notes[:, ONSET : OFFSET + 1]
    intervals = _steps(notes[:, PITCH])
    return _hash8(timing.astype("<i4").tobytes() + intervals.astype("<i4").tobytes())


def mix(value: UInt64) -> UInt64:
    """Bijective scrambling of 64-bit words, elementwise (the output function of SplitMix64, Steele et al. 2014)."""
    value = (value ^ (value >> np.uint64(30))) * _MULTIPLIERS[0]
    value = (value ^ (value >> np.uint64(27))) * _MULTIPLIERS[1]
    return value ^ (value >> np.uint64(31))


def combine(state: UInt64, value: NDArray[np.integer] | int) -> UInt64:
    """Hash of a sequence, one more element at a time: elementwise over broadcast arrays."""
    word = np.full(1, value & _MASK, np.uint64) if isinstance(value, int) else value.astype(np.uint64)
    return mix(state * _STEP + mix(word + _STEP))


def song_words(digests: list[str]) -> UInt64:
    """The first 8 bytes of each hexadecimal digest as a word, uint64 [n]."""
    return np.array([int(digest[:16], 16) for digest in digests], np.uint64)


def is_valid(words: UInt64, valid_share: float) -> NDArray[np.bool_]:
    """Which songs belong to the valid split, bool [n]: a song's side is a hash of its digest alone."""
    # promise: song-s-side-hash-3
    share = mix(words + _STEP) >> np.uint64(11)  # 53 bits: exact as float64
    return np.asarray(share.astype(np.float64) / 2.0**53 < valid_share)


def window_words(seed: int, song: UInt64, track: NDArray[np.integer], start_tick: NDArray[np.integer]) -> UInt64:
    """A hash of each window's place, uint64 [n], from which the order of the plan is drawn."""
    return combine(combine(combine(np.zeros_like(song), seed) ^ song, track), start_tick)


def clip_id(digest: str, track: int, start_tick: int, key_shift: int, instrument: str) -> str:
    """16 hexadecimal digits: blake2b of source digest, track, start tick, key shift and the instrument's name."""
    # promise: id-hangs-source-track
    return blake2b(f"{digest}/{track}/{start_tick}/{key_shift}/{instrument}".encode(), digest_size=8).hexdigest()

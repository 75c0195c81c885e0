"""Hashes that name, sort and compare windows and clips: functions of content alone.

Hashes have 8 bytes. Among the 2e7 windows of a dataset of 180 000 songs, the probability that any two different ones
share a hash is 1e-5, and the consequence would be one window fewer.
"""

from hashlib import blake2b
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_specs.hashing import GOLDEN_GAMMA, UInt64, splitmix64
from pipeline.melody.windows import OFFSET, ONSET, PITCH, Notes

_MASK = (1 << 64) - 1


def _hash8(content: bytes) -> int:
    return int.from_bytes(blake2b(content, digest_size=8).digest(), "little")


def _differences(values: NDArray[Any]) -> NDArray[Any]:
    return np.asarray(values[1:] - values[:-1])  # np.diff is slower, which shows at 1e7 windows


def fingerprint(notes: Notes, first: int) -> int:
    """Hash the melodic contour of the first `first` notes, independent of key, tempo and articulation.

    The hash covers intervals in semitones and ratios of successive inter-onset times, rounded to half octaves (factors
    of the square root of 2). 1:1, 3:2, 2:1 and 3:1 differ from their inverses, uneven playing is ignored. The fixed
    number of notes makes it independent of tempo, which decides how many notes fit into a window.
    """
    # promise: song-s-side-hash-2
    intervals = _differences(notes[:first, PITCH])
    ratios = np.rint(_differences(2 * np.log2(_differences(notes[:first, ONSET]))))
    return _hash8(np.concatenate([intervals, ratios]).astype("<i2").tobytes())


def repeat_key(notes: Notes) -> int:
    """Hash a window's timing and intervals: equal for windows that differ only in key and loudness.

    Key shifts and the octave move would make clips of such windows equal.
    """
    timing = notes[:, ONSET : OFFSET + 1]
    intervals = _differences(notes[:, PITCH])
    return _hash8(timing.astype("<i4").tobytes() + intervals.astype("<i4").tobytes())


def combine(state: UInt64, value: NDArray[np.integer] | int) -> UInt64:
    """Extend the hash of a sequence by one element, elementwise over broadcast arrays."""
    word = np.full(1, value & _MASK, np.uint64) if isinstance(value, int) else value.astype(np.uint64)
    return splitmix64(state * GOLDEN_GAMMA + splitmix64(word + GOLDEN_GAMMA))


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


def clip_id(digest: str, track: int, start_tick: int, key_shift: int, instrument: str) -> str:
    """Return 16 hexadecimal digits: blake2b of source digest, track, start tick, key shift and instrument name."""
    # promise: id-hangs-source-track
    return blake2b(f"{digest}/{track}/{start_tick}/{key_shift}/{instrument}".encode(), digest_size=8).hexdigest()

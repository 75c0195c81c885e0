"""SplitMix64 (Steele, Lea and Flood, OOPSLA 2014): the hash by which plan and loader order songs and clips."""

import numpy as np
from numpy.typing import NDArray

UInt64 = NDArray[np.uint64]

GOLDEN_GAMMA = np.uint64(0x9E3779B97F4A7C15)
_MULTIPLIERS = (np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB))


def splitmix64(words: UInt64) -> UInt64:
    """Return the SplitMix64 finalizer of each word: a bijection in which every input bit affects every output bit.

    GOLDEN_GAMMA is not added here.
    """
    with np.errstate(over="ignore"):
        words = (words ^ (words >> np.uint64(30))) * _MULTIPLIERS[0]
        words = (words ^ (words >> np.uint64(27))) * _MULTIPLIERS[1]
    return words ^ (words >> np.uint64(31))

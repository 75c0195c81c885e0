"""SplitMix64 (Steele, Lea and Flood, OOPSLA 2014): the hash behind every order and draw of the project."""

import numpy as np
from numpy.typing import NDArray

UInt64 = NDArray[np.uint64]

GOLDEN_GAMMA = np.uint64(0x9E3779B97F4A7C15)
_MULTIPLIERS = (np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB))


def splitmix64(words: UInt64) -> UInt64:
    """Finalize 64-bit words elementwise: a bijection in which every input bit affects every output bit."""
    with np.errstate(over="ignore"):
        words = (words ^ (words >> np.uint64(30))) * _MULTIPLIERS[0]
        words = (words ^ (words >> np.uint64(27))) * _MULTIPLIERS[1]
    return words ^ (words >> np.uint64(31))

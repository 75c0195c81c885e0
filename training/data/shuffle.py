"""Randomness as a function of (seed, position): which clip comes when, and every number drawn on the way.

Nothing here has state. A position counts the clips that training has taken since its first step; position p is in
pass p // n of a dataset of n clips. So a run can continue anywhere, on any number of ranks, and sees the same clips
with the same crops and the same drop-out.
"""

# promise: none-imported-pipeline-training
import zlib

import numpy as np

from data_specs.arrays import Float64, Int64
from data_specs.hashing import GOLDEN_GAMMA, UInt64, splitmix64

# promise: same-clips-crops-drop-2
_ROUNDS = 8  # of the Feistel network; 4 suffice in theory for large domains, small ones need more


def hashed(*keys: int | str | Int64 | UInt64) -> UInt64:
    """64 random bits, uint64 [...], as a function of `keys`: integers, names, or arrays of integers that broadcast."""
    state = np.zeros((), dtype=np.uint64)
    with np.errstate(over="ignore"):
        for key in keys:
            if isinstance(key, str):
                key = zlib.crc32(key.encode())
            if isinstance(key, int):
                key = key & 0xFFFFFFFFFFFFFFFF
            state = splitmix64((state + GOLDEN_GAMMA) ^ splitmix64(np.asarray(key).astype(np.uint64) + GOLDEN_GAMMA))
    return state


def uniform(*keys: int | str | Int64 | UInt64) -> Float64:
    """Numbers in [0, 1), float64 [...], as a function of `keys` (see `hashed`)."""
    return (hashed(*keys) >> np.uint64(11)).astype(np.float64) * 2.0**-53


def seed_of(*keys: int | str) -> int:
    """One seed in 0..2^63-1, fit for a torch.Generator, as a function of `keys`."""
    return int(hashed(*keys) >> np.uint64(1))


def permuted(index: Int64, n: int, key: UInt64) -> Int64:
    """Map `index` [N] by a random permutation of 0..n-1; `key` (scalar or [N]) chooses the permutation.

    A balanced Feistel network (Luby and Rackoff, 1988) permutes the next power of four; values that fall outside
    0..n-1 go through it again until they fall inside (cycle walking; Black and Rogaway, 2002). No table of n entries.
    """
    half_bits = max(1, ((n - 1).bit_length() + 1) // 2)
    shift, mask = np.uint64(half_bits), np.uint64((1 << half_bits) - 1)
    values = np.asarray(index).astype(np.uint64)
    keys = np.broadcast_to(key, values.shape)
    outside = np.ones(values.shape, dtype=bool)
    while outside.any():
        left, right = values[outside] >> shift, values[outside] & mask
        for round_ in range(_ROUNDS):
            left, right = right, left ^ (hashed(keys[outside], round_, right) & mask)
        values[outside] = (left << shift) | right
        outside[outside] = values[outside] >= n
    return values.astype(np.int64)


def order(seed: int, pass_: int, n: int) -> Int64:
    """The clips of one pass in the order they are taken, int64 [n]."""
    return clips_at(np.arange(pass_ * n, (pass_ + 1) * n), n, seed)


def clips_at(positions: Int64, n: int, seed: int) -> Int64:
    """Index of the clip at each position, int64 [N]: every pass of n positions takes each of n clips once."""
    passes, within = np.divmod(np.asarray(positions, dtype=np.int64), n)
    # promise: same-clips-crops-drop-3
    return permuted(within, n, hashed(seed, "order", passes))

"""Order of clips and random numbers as stateless functions of (seed, position).

A position counts the clips of a run from 0; position p is in pass p // n over a dataset of n clips, from pass 0. A run
that is resumed at any position, on any number of ranks, therefore gets the same clips, crops and control dropout.
"""

# promise: none-imported-pipeline-training
import zlib

import numpy as np

from data_specs.arrays import Float64, Int64
from data_specs.hashing import GOLDEN_GAMMA, UInt64, splitmix64

# promise: same-clips-crops-drop-2
_ROUNDS = 8  # of the Feistel network; 4 suffice in theory for large n, small n needs more


def hashed(*keys: int | str | Int64 | UInt64) -> UInt64:
    """Return a hash of `keys` in their order, 64 pseudorandom bits, uint64 of the broadcast shape of the keys.

    Keys are integers, which count modulo 2^64, texts, or arrays of integers that broadcast.
    """
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
    """Return pseudorandom uniform numbers in [0, 1), float64 of the shape of `hashed(*keys)`, a function of `keys`."""
    return (hashed(*keys) >> np.uint64(11)).astype(np.float64) * 2.0**-53


def seed_of(*keys: int | str) -> int:
    """Return a seed of a torch.Generator in 0..2^63-1, a hash of `keys` (see `hashed`)."""
    return int(hashed(*keys) >> np.uint64(1))


def permuted(index: Int64, n: int, key: UInt64) -> Int64:
    """Return the images of `index` [N] under a pseudorandom permutation of 0..n-1, int64 [N].

    `index` is in 0..n-1. `key`, a scalar or one for each index [N], selects the permutation. A balanced Feistel network
    (Luby and Rackoff, 1988) permutes the integers below a power of four that is at least n; values that fall outside
    0..n-1 are permuted again until they fall inside (cycle walking; Black and Rogaway, 2002).
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
    """Return the indices 0..n-1 of the clips in the order of pass `pass_` (from 0) of a run with `seed`, int64 [n]."""
    return clips_at(np.arange(pass_ * n, (pass_ + 1) * n), n, seed)


def clips_at(positions: Int64, n: int, seed: int) -> Int64:
    """Return the index in 0..n-1 of the clip at each of `positions` [N] of a run with `seed`, int64 [N].

    Each pass, of n positions, has each of the n clips once, in another order.
    """
    passes, within = np.divmod(np.asarray(positions, dtype=np.int64), n)
    # promise: same-clips-crops-drop-3
    return permuted(within, n, hashed(seed, "order", passes))

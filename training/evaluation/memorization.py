"""Detect copies of training clips by nearest neighbours among embeddings.

A clip is one vector: its frames concatenated, each dimension divided by its standard deviation over the training clips.
n, m clips, D numbers of each.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_specs.arrays import Int64
from data_specs.io.files import Json

BLOCK = 256  # clips compared at once: bounds memory
LISTED = 10


@dataclass(frozen=True)
class Copies:
    """Result of the nearest-neighbour search.

    Attributes:
        nearer_to_train: share of generated clips nearer to train than to valid, both subsampled to one size.
        nearer_to_train_real: the same share of the valid clips, each compared with the others: the chance level.
        suspects: number of generated clips nearer to a training clip than any valid clip is.
        nearest: the nearest pairs: index of the generated clip, index of the training clip, distance.
        limit: smallest distance of a valid clip to a training clip.
    """

    nearer_to_train: float
    nearer_to_train_real: float
    suspects: int
    nearest: list[Json]
    limit: float


def nearest(one: NDArray[Any], other: NDArray[Any], same: bool = False) -> tuple[NDArray[Any], Int64]:
    """Return distance and index [n] of the nearest of [m, D] to each of [n, D]; `same` excludes a vector itself."""
    best, which = np.empty(len(one)), np.empty(len(one), dtype=np.int64)
    norms = np.square(other).sum(1)
    for start in range(0, len(one), BLOCK):
        part = one[start : start + BLOCK]
        squares = np.square(part).sum(1)[:, None] + norms - 2 * part @ other.T
        if same:
            rows = np.arange(len(part))
            squares[rows, rows + start] = np.inf
        which[start : start + BLOCK] = squares.argmin(1)
        best[start : start + BLOCK] = np.sqrt(np.maximum(squares.min(1), 0))
    return best, which


def find_copies(generated: NDArray[Any], train: NDArray[Any], valid: NDArray[Any], seed: int) -> Copies | None:
    """Compare embeddings of clips, [n, F, D] each; None with fewer than two real clips of either split."""
    if len(train) < 2 or len(valid) < 2 or not len(generated):
        return None
    flat = [np.asarray(x, np.float64).reshape(len(x), -1) for x in (generated, train, valid)]
    scale = np.maximum(flat[1].std(0), 1e-9)
    ours, train, valid = (x / scale for x in flat)
    size = min(len(train), len(valid) - 1)  # a valid clip is no neighbour of itself
    rng = np.random.default_rng(seed)
    fewer = train[rng.choice(len(train), size, replace=False)]
    others = valid[rng.choice(len(valid), size, replace=False)]
    to_train, partner = nearest(ours, train)
    limit = float(nearest(valid, train)[0].min())
    order = np.argsort(to_train, kind="stable")[:LISTED]
    return Copies(
        nearer_to_train=float((nearest(ours, fewer)[0] < nearest(ours, others)[0]).mean()),
        nearer_to_train_real=float((nearest(valid, fewer)[0] < nearest(valid, valid, same=True)[0]).mean()),
        suspects=int((to_train < limit).sum()),
        nearest=[{"clip": int(i), "train": int(partner[i]), "distance": float(to_train[i])} for i in order],
        limit=limit,
    )

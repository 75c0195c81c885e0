"""Detection of copies of training clips by nearest neighbours among embeddings.

The vector of a clip is its concatenated frames, each dimension divided by its standard deviation over training clips.
n, m clips, F frames, D dimensions of a vector.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_specs.arrays import Int64
from data_specs.io.files import Json

BLOCK = 256  # clips compared at a time, to bound memory
LISTED = 10  # nearest pairs in the result


@dataclass(frozen=True)
class Copies:
    """Result of the nearest-neighbour search.

    Attributes:
        nearer_to_train: share of generated clips that are nearer to train than to valid clips, in equal numbers.
        nearer_to_train_real: the same share for valid clips instead of generated ones: the chance level.
        suspects: number of generated clips whose distance to train is below `limit`.
        nearest: the nearest pairs: `clip` (generated), `train` (its neighbour) and `distance`.
        limit: smallest distance of a valid clip to a training clip.
    """

    nearer_to_train: float
    nearer_to_train_real: float
    suspects: int
    nearest: list[Json]
    limit: float


def nearest(one: NDArray[Any], other: NDArray[Any], same: bool = False) -> tuple[NDArray[Any], Int64]:
    """Return distance and index, [n] each, of the vector of `other` [m, D] nearest to each of `one` [n, D].

    `same` excludes the vector itself, if both are the same array.
    """
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
    """Compare the embeddings [n, F, D] of generated and real clips; return None for fewer than two clips of a split."""
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

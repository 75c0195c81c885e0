"""Detection of copies of training clips by nearest neighbours among embeddings.

The vector of a clip is its embeddings of all frames one after the other, each dimension divided by its standard
deviation over training clips. Distances are Euclidean. n, m clips, F frames, D dimensions of an embedding, V = F * D of
a vector.
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

    Train and valid clips are compared in equal numbers: random subsets as large as the smaller of all train clips and
    all valid clips but one.

    Attributes:
        nearer_to_train: share of generated clips whose nearest clip of the train subset is nearer than their nearest
            clip of the valid subset.
        nearer_to_train_real: the same share for all valid clips instead of generated ones, against the train subset and
            all other valid clips: the chance level.
        suspects: number of generated clips whose distance to the nearest of all train clips is below `limit`.
        nearest: up to ten generated clips nearest to a train clip, nearest first: `clip`, `train` (indices of the
            generated clip and of its neighbour) and `distance`.
        limit: smallest distance of any valid clip to any train clip.
    """

    nearer_to_train: float
    nearer_to_train_real: float
    suspects: int
    nearest: list[Json]
    limit: float


def nearest(one: NDArray[Any], other: NDArray[Any], same: bool = False) -> tuple[NDArray[Any], Int64]:
    """Return distance to and index of the nearest vector of `other` for each vector of `one`, float64 and int64 [n].

    Args:
        one: vectors [n, V].
        other: vectors [m, V].
        same: whether both are the same array; a vector is then not compared with itself.
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
    """Return the result of the search for copies of train clips among generated clips.

    Args:
        generated: embeddings of generated clips, [n, F, D].
        train: embeddings of train clips, [m, F, D].
        valid: embeddings of valid clips, as `train`.
        seed: seed of the random subsets.

    Returns:
        None without generated clips, or for fewer than two train or valid clips.
    """
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

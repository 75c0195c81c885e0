"""Deterministic k-means (Lloyd 1982) for residual codebooks, with entry 0 fixed at zero and without dead entries.

M points, E entries, D dimensions.
"""

import torch
from torch import Tensor

ROWS = 8192  # points compared at a time: at most 32 MB; a constant number gives constant rounding


def nearest(points: Tensor, entries: Tensor) -> tuple[Tensor, Tensor]:
    """Return the index of the nearest of `entries` [E, D] to each of `points` [M, D], and its squared distance.

    Both results are [M], int64 and float32.
    """
    half_norms = entries.square().sum(1) / 2
    indices, distances = [], []
    for rows in points.split(ROWS):
        score, index = torch.addmm(half_norms, rows, entries.T, alpha=-1).min(1)
        indices.append(index)
        distances.append((2 * score + rows.square().sum(1)).clamp(min=0))
    return torch.cat(indices), torch.cat(distances)


def codebook(points: Tensor, entries: int, iterations: int, generator: torch.Generator) -> Tensor:
    """Fit E = `entries` entries to `points` [M, D] in `iterations` steps of k-means: float32 [E, D].

    Entry 0 is zero; each other entry is the nearest one to at least one point. Initial entries are points drawn with
    probability proportional to their norm. After each step, an entry other than 0 to which at most M // (50 E) points
    are nearest is replaced by a point drawn with probability proportional to its squared distance from its nearest
    entry. In the last three steps only an entry without points is replaced.

    Raises:
        ValueError: fewer distinct non-zero points than entries other than 0, or points too alike.
    """
    centres = torch.zeros(entries, points.shape[1])
    centres[1:] = points[_draw(points.norm(dim=1), entries - 1, generator)]
    least = len(points) // (50 * entries)
    for step in range(iterations):
        index, distance = nearest(points, centres)
        counts = torch.bincount(index, minlength=entries)
        sums = torch.zeros_like(centres).index_add_(0, index, points)
        centres = sums / counts.clamp(min=1)[:, None]
        centres[0] = 0
        # No replacements in the last three steps, since a new entry needs steps to become a mean.
        weak = (counts <= (least if step < iterations - 3 else 0)).nonzero()[:, 0]
        weak = weak[weak > 0]
        if len(weak):
            centres[weak] = points[_draw(distance, len(weak), generator)]
    return _replace_dead(points, centres, generator)


def _replace_dead(points: Tensor, centres: Tensor, generator: torch.Generator) -> Tensor:
    """Return `centres`, changed in place until each entry other than 0 is nearest to a point.

    An entry that is nearest to no point is replaced by a point drawn with probability proportional to its squared
    distance from its nearest entry.

    Raises:
        ValueError: too few points differ from the entries, or such entries remain after 100 rounds.
    """
    for _ in range(100):
        index, distance = nearest(points, centres)
        dead = (torch.bincount(index, minlength=len(centres)) == 0).nonzero()[:, 0]
        dead = dead[dead > 0]  # entry 0 represents silence, of which there may be no point
        if not len(dead):
            return centres
        centres[dead] = points[_draw(distance, len(dead), generator)]
    raise ValueError(f"{len(points)} frames are too few or too alike for {len(centres)} entries; fit on more audio")


def _draw(weights: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Draw `count` distinct indices of `weights` [M], one after another with probability proportional to the weight.

    The method is that of Efraimidis and Spirakis (2006).

    Raises:
        ValueError: fewer than `count` weights are positive.
    """
    if int((weights > 0).sum()) < count:
        raise ValueError(f"{int((weights > 0).sum())} frames are too few for {count} entries; fit on more audio")
    races = torch.empty(len(weights), dtype=torch.float64).exponential_(generator=generator)
    return (races / weights.double()).topk(count, largest=False).indices

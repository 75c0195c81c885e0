"""Deterministic k-means for residual codebooks (Lloyd 1982), with entry 0 fixed at zero and no dead entries."""

import torch
from torch import Tensor

ROWS = 8192  # points compared at once: bounds memory at 32 MB, and a constant size keeps rounding the same


def nearest(points: Tensor, entries: Tensor) -> tuple[Tensor, Tensor]:
    """Return the index of the nearest entry and the squared distance to it, int64 [M] and float32 [M].

    `points` float32 [M, D], `entries` float32 [E, D].
    """
    half_norms = entries.square().sum(1) / 2
    indices, distances = [], []
    for rows in points.split(ROWS):
        score, index = torch.addmm(half_norms, rows, entries.T, alpha=-1).min(1)
        indices.append(index)
        distances.append((2 * score + rows.square().sum(1)).clamp(min=0))
    return torch.cat(indices), torch.cat(distances)


def codebook(points: Tensor, entries: int, iterations: int, generator: torch.Generator) -> Tensor:
    """Return entries float32 [E, D] for `points` float32 [M, D]; entry 0 is zero, and each other entry has a point.

    Initial entries are points drawn in proportion to their norm, since errors of loud frames weigh most. After each
    step, an entry with less than a fiftieth of its even share of the points is replaced by a point drawn in
    proportion to its squared distance.

    Raises:
        ValueError: fewer distinct non-zero points than entries.
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
        # No replacements in the last steps: an entry replaced just before the end would have a single point.
        weak = (counts <= (least if step < iterations - 3 else 0)).nonzero()[:, 0]
        weak = weak[weak > 0]
        if len(weak):
            centres[weak] = points[_draw(distance, len(weak), generator)]
    return _replace_dead(points, centres, generator)


def _replace_dead(points: Tensor, centres: Tensor, generator: torch.Generator) -> Tensor:
    """Move entries nearest to no point onto points with large errors, until there are none."""
    for _ in range(100):
        index, distance = nearest(points, centres)
        dead = (torch.bincount(index, minlength=len(centres)) == 0).nonzero()[:, 0]
        dead = dead[dead > 0]  # the zero entry is for silence, which may not occur among the points
        if not len(dead):
            return centres
        centres[dead] = points[_draw(distance, len(dead), generator)]
    raise ValueError(f"{len(points)} frames are too few or too alike for {len(centres)} entries; fit on more audio")


def _draw(weights: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Draw `count` distinct indices in proportion to `weights` [M] (exponential races, Efraimidis 2006)."""
    if int((weights > 0).sum()) < count:
        raise ValueError(f"{int((weights > 0).sum())} frames are too few for {count} entries; fit on more audio")
    races = torch.empty(len(weights), dtype=torch.float64).exponential_(generator=generator)
    return (races / weights.double()).topk(count, largest=False).indices

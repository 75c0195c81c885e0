"""k-means for residual codebooks (Lloyd 1982): entry 0 fixed at zero, no dead entries, the same result every time."""

import torch
from torch import Tensor

ROWS = 8192  # points compared at once: bounds memory at 32 MB, and a constant size keeps rounding the same


def nearest(points: Tensor, entries: Tensor) -> tuple[Tensor, Tensor]:
    """Index of the nearest entry and squared distance to it, int64 [M] and float32 [M].

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
    """Entries float32 [E, D] for `points` float32 [M, D]; entry 0 is the zero vector, and none is without a point.

    Starts from points drawn in proportion to their length, which puts entries among loud frames, where errors weigh
    most. After each step, entries with less than a fiftieth of an even share of the points start again at points
    drawn in proportion to their squared distance, so that none dies.

    Raises:
        ValueError: fewer points than entries that differ from zero and from each other.
    """
    centres = torch.zeros(entries, points.shape[1])
    centres[1:] = points[_drawn(points.norm(dim=1), entries - 1, generator)]
    least = len(points) // (50 * entries)
    for step in range(iterations):
        index, distance = nearest(points, centres)
        counts = torch.bincount(index, minlength=entries)
        sums = torch.zeros_like(centres).index_add_(0, index, points)
        centres = sums / counts.clamp(min=1)[:, None]
        centres[0] = 0
        # The last steps only settle: an entry that started again just before the end would stand on a single point.
        weak = (counts <= (least if step < iterations - 3 else 0)).nonzero()[:, 0]
        weak = weak[weak > 0]
        if len(weak):
            centres[weak] = points[_drawn(distance, len(weak), generator)]
    return _alive(points, centres, generator)


def _alive(points: Tensor, centres: Tensor, generator: torch.Generator) -> Tensor:
    """Entries nearest to no point are moved onto the points that are served worst, until there are none."""
    for _ in range(100):
        index, distance = nearest(points, centres)
        dead = (torch.bincount(index, minlength=len(centres)) == 0).nonzero()[:, 0]
        dead = dead[dead > 0]  # the zero entry serves silence, of which there may be none among the points
        if not len(dead):
            return centres
        centres[dead] = points[_drawn(distance, len(dead), generator)]
    raise ValueError(f"{len(points)} frames are too few or too alike for {len(centres)} entries; fit on more audio")


def _drawn(weights: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """`count` different indices, drawn in proportion to `weights` [M] (by exponential races, Efraimidis 2006)."""
    if int((weights > 0).sum()) < count:
        raise ValueError(f"{int((weights > 0).sum())} frames are too few for {count} entries; fit on more audio")
    races = torch.empty(len(weights), dtype=torch.float64).exponential_(generator=generator)
    return (races / weights.double()).topk(count, largest=False).indices

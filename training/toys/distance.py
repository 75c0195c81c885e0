"""Sliced Wasserstein distance between point clouds."""

import torch
from torch import Tensor


def sliced_wasserstein(a: Tensor, b: Tensor, directions: int = 256, seed: int = 0) -> float:
    """Return the sliced 2-Wasserstein distance (Bonneel et al. 2015) of two point clouds [N, D] of equal size.

    It is the root mean square, over random unit directions, of the 2-Wasserstein distance of the projections.

    Args:
        a, b: point clouds.
        directions: number of directions.
        seed: seed of the directions.
    """
    generator = torch.Generator().manual_seed(seed)
    lines = torch.randn(a.shape[1], directions, generator=generator, dtype=torch.float64)
    lines /= lines.norm(dim=0)
    projected = [(cloud.double() @ lines).sort(dim=0).values for cloud in (a, b)]
    return float((projected[0] - projected[1]).square().mean().sqrt())


def compared(samples: Tensor, data: Tensor, count: int, draws: int = 5, seed: int = 0) -> tuple[float, float]:
    """Return the sliced Wasserstein distance of samples to data, and that of two disjoint parts of the data.

    Each set in a comparison has `count` random points.

    Args:
        samples: [S, D] with S >= count.
        data: [M, D] with M >= 2 count.
        count: number of points in each set.
        draws: number of random choices of points and directions, over which both distances are averaged.
        seed: seed of these choices.
    """
    against, halves = 0.0, 0.0
    for draw in range(draws):
        generator = torch.Generator().manual_seed(seed + draw)
        order = torch.randperm(len(data), generator=generator)
        first, second = data[order[:count]], data[order[count : 2 * count]]
        drawn = samples[torch.randperm(len(samples), generator=generator)[:count]]
        against += sliced_wasserstein(drawn, first, seed=seed + draw) / draws
        halves += sliced_wasserstein(first, second, seed=seed + draw) / draws
    return against, halves

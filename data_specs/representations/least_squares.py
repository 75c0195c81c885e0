"""Least squares by preconditioned conjugate gradients (Hestenes and Stiefel 1952; Saad 2003, algorithm 9.1)."""

from collections.abc import Callable

import torch
from torch import Tensor


def conjugate_gradients(
    operator: Callable[[Tensor], Tensor],
    right: Tensor,
    precondition: Callable[[Tensor], Tensor],
    steps: int,
) -> Tensor:
    """Solve operator(x) = right approximately, for each of B systems, by `steps` steps from x = 0.

    Args:
        operator: symmetric positive semidefinite map [B, N] -> [B, N], such as A^T A.
        right: [B, N], such as A^T y.
        precondition: approximate inverse of the operator, symmetric positive semidefinite.
        steps: number of steps, always all taken, so that the result depends on no tolerance.

    Returns:
        x [B, N], differentiable; zero for systems whose `right` is zero.
    """
    solution = torch.zeros_like(right)
    residual = right
    preconditioned = direction = precondition(residual)
    power = _dot(residual, preconditioned)
    for _ in range(steps):
        mapped = operator(direction)
        step = _ratio(power, _dot(direction, mapped))
        solution = solution + step * direction
        residual = residual - step * mapped
        preconditioned = precondition(residual)
        previous, power = power, _dot(residual, preconditioned)
        direction = preconditioned + _ratio(power, previous) * direction
    return solution


def _dot(a: Tensor, b: Tensor) -> Tensor:
    return (a * b).sum(dim=1, keepdim=True)


def _ratio(above: Tensor, below: Tensor) -> Tensor:
    """Return above / below, and 0 where `below` is not positive; differentiable in both cases."""
    positive = below > 0
    return torch.where(positive, above / torch.where(positive, below, 1.0), 0.0)

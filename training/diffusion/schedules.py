"""Noise schedules: the share of signal over discrete time, and decreasing lists of noise levels for samplers.

T steps; alphabar_t is the product of the alphas up to t, alphabar_0 = 1. sigma is noise over signal amplitude.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from data_specs.errors import UserError


def linear_alphabars(steps: int) -> Tensor:
    """float64 [T + 1]: betas linear from 1e-4 to 0.02 at T = 1000 (Ho et al. 2020, section 4), scaled for other T."""
    scale = 1000 / steps
    betas = torch.linspace(1e-4 * scale, 0.02 * scale, steps, dtype=torch.float64).clamp(max=0.999)
    return torch.cat([torch.ones(1, dtype=torch.float64), torch.cumprod(1 - betas, 0)])


def cosine_alphabars(steps: int, offset: float = 0.008) -> Tensor:
    """float64 [T + 1]: cos^2 falling to exactly 0 (Nichol and Dhariwal 2021, eq. 17)."""
    times = torch.arange(steps + 1, dtype=torch.float64) / steps
    shape = torch.cos((times + offset) / (1 + offset) * math.pi / 2) ** 2
    alphabars = shape / shape[0]
    alphabars[-1] = 0.0
    return alphabars


SCHEDULES: dict[str, Callable[[int], Tensor]] = {"linear": linear_alphabars, "cosine": cosine_alphabars}


def with_signal_left(alphabars: Tensor, least: float = 4e-5) -> Tensor:
    """The schedule with alphabar never below `least`, where the linear one ends: sigma stays below 160.

    A network that predicts noise with error e is off by sigma * e in the data it implies. At the end of the cosine
    schedule, with each beta cut at 0.999 as its paper has it, sigma is 2e4, and sampling in strides diverges.
    """
    return alphabars.clamp(min=least)


def sigmas_of(alphabars: Tensor) -> Tensor:
    """sigma = sqrt((1 - alphabar) / alphabar): the noise level of x_t / sqrt(alphabar_t)."""
    return ((1 - alphabars) / alphabars).sqrt()


def strided_times(total: int, steps: int | None) -> list[int]:
    """Decreasing times from `total` to 0 in `steps` strides of nearly equal length; None takes every step.

    Raises:
        UserError: fewer than one step, or more than there are.
    """
    steps = total if steps is None else steps
    if not 1 <= steps <= total:
        raise UserError(f"SAMPLER_STEPS={steps} is not possible; choose 1 to {total}")
    return [round(total * (steps - step) / steps) for step in range(steps + 1)]


def karras_sigmas(steps: int, sigma_min: float, sigma_max: float, rho: float = 7.0) -> list[float]:
    """`steps` decreasing levels from sigma_max to sigma_min, then 0 (Karras et al. 2022, eq. 5).

    Raises:
        UserError: steps below 1 or levels that do not decrease to above 0.
    """
    if steps < 1 or not 0 < sigma_min < sigma_max:
        raise UserError(f"noise levels from {sigma_max} to {sigma_min} in {steps} steps make no schedule; check them")
    first, last = sigma_max ** (1 / rho), sigma_min ** (1 / rho)
    return [(first + i / max(1, steps - 1) * (last - first)) ** rho for i in range(steps)] + [0.0]

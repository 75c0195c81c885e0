"""Samplers as functions of (denoiser, x, sigmas): no networks, devices or progress bars in here.

x [B, ...] is clean data plus noise of standard deviation sigma (s(t) = 1, sigma(t) = t of Karras et al. 2022). A
denoiser maps (x, sigma [B]) to the expected clean data. Sigmas decrease and end in 0. Models trained with a
variance-preserving process live in the same space after division by sqrt(alphabar), so every sampler serves every
continuous paradigm.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor

from training.diffusion.noise import Noise

Denoiser = Callable[[Tensor, Tensor], Tensor]
Callback = Callable[[int, int, Tensor], None]  # step from 1, number of steps, the state after it


@dataclass(frozen=True)
class Churn:
    """How much noise a stochastic sampler adds back, and where (Karras et al. 2022, algorithm 2)."""

    s_churn: float = 0.0
    s_min: float = 0.0
    s_max: float = math.inf
    s_noise: float = 1.0

    def gamma(self, sigma: float, steps: int) -> float:
        """Relative increase of the noise level before the step from `sigma`."""
        inside = self.s_min <= sigma <= self.s_max
        return min(self.s_churn / steps, math.sqrt(2) - 1) if inside else 0.0


def _slope(denoiser: Denoiser, x: Tensor, sigma: float) -> Tensor:
    """dx / dsigma of the probability flow (eq. 3 with s = 1): the estimated unit noise."""
    return (x - denoiser(x, x.new_full((x.shape[0],), sigma))) / sigma


def _churned(x: Tensor, sigma: float, gamma: float, churn: Churn, noise: Noise | None) -> tuple[Tensor, float]:
    if gamma == 0:
        return x, sigma
    if noise is None:
        raise ValueError("a stochastic sampler needs a source of noise")
    raised = sigma * (1 + gamma)
    added = noise.normal(tuple(x.shape[1:])).to(x)
    return x + math.sqrt(raised**2 - sigma**2) * churn.s_noise * added, raised


def sample_euler(
    denoiser: Denoiser,
    x: Tensor,
    sigmas: Sequence[float],
    *,
    noise: Noise | None = None,
    churn: Churn = Churn(),
    callback: Callback | None = None,
) -> Tensor:
    """First order along the probability flow; without churn it is DDIM at eta 0 (Song et al. 2021, eq. 13)."""
    steps = len(sigmas) - 1
    for step in range(steps):
        x, sigma = _churned(x, sigmas[step], churn.gamma(sigmas[step], steps), churn, noise)
        x = x + (sigmas[step + 1] - sigma) * _slope(denoiser, x, sigma)
        if callback is not None:
            callback(step + 1, steps, x)
    return x


def sample_heun(
    denoiser: Denoiser,
    x: Tensor,
    sigmas: Sequence[float],
    *,
    noise: Noise | None = None,
    churn: Churn = Churn(),
    callback: Callback | None = None,
) -> Tensor:
    """Second order, stochastic when `churn` says so (Karras et al. 2022, algorithm 2): 2 N - 1 evaluations."""
    steps = len(sigmas) - 1
    for step in range(steps):
        x, sigma = _churned(x, sigmas[step], churn.gamma(sigmas[step], steps), churn, noise)
        below = sigmas[step + 1]
        slope = _slope(denoiser, x, sigma)
        ahead = x + (below - sigma) * slope
        if below > 0:
            ahead = x + (below - sigma) * (slope + _slope(denoiser, ahead, below)) / 2
        x = ahead
        if callback is not None:
            callback(step + 1, steps, x)
    return x


def sample_ancestral(
    denoiser: Denoiser,
    x: Tensor,
    sigmas: Sequence[float],
    *,
    noise: Noise | None = None,
    eta: float = 1.0,
    callback: Callback | None = None,
) -> Tensor:
    """Ancestral sampling with the posterior variance (Ho et al. 2020, eq. 7), over any subset of the noise levels.

    Song et al. 2021, eq. 12 and 16, written in x_t / sqrt(alphabar_t): at `eta` 1 DDPM's posterior, at 0 DDIM.
    """
    steps = len(sigmas) - 1
    for step in range(steps):
        sigma, below = sigmas[step], sigmas[step + 1]
        slope = _slope(denoiser, x, sigma)
        fresh = eta * below * math.sqrt(max(0.0, 1 - (below / sigma) ** 2))  # standard deviation of new noise
        x = x - sigma * slope + math.sqrt(below**2 - fresh**2) * slope
        if fresh > 0:
            if noise is None:
                raise ValueError("ancestral sampling needs a source of noise")
            x = x + fresh * noise.normal(tuple(x.shape[1:])).to(x)
        if callback is not None:
            callback(step + 1, steps, x)
    return x

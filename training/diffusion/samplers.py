"""Samplers as functions of (denoiser, x, sigmas), independent of networks and devices.

x [B, ...] is clean data plus noise of standard deviation sigma (s(t) = 1, sigma(t) = t in Karras et al. 2022). A
denoiser maps (x, sigma [B]) to the expected clean data. `sigmas` decrease and end in 0. Variance-preserving models use
the same variables after division by sqrt(alphabar), so every sampler can be used with every continuous paradigm.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from torch import Tensor

from training.diffusion.noise import Noise

Denoiser = Callable[[Tensor, Tensor], Tensor]


class SamplerState(NamedTuple):
    """State after a step, as callbacks receive it.

    Attributes:
        step: number of steps done, from 1.
        steps: number of steps in all.
        x: noisy clips after the step, [B, ...]; codes for a paradigm over codes.
        denoised: estimate of the clean clips [B, ...], made at the start of the step; None for codes.
    """

    step: int
    steps: int
    x: Tensor
    denoised: Tensor | None


Callback = Callable[[SamplerState], None]


@dataclass(frozen=True)
class Churn:
    """Options of stochastic sampling, which adds noise before each step (Karras et al. 2022, algorithm 2).

    Attributes:
        s_churn: amount of noise, spread over all steps; 0 for none.
        s_min, s_max: lowest and highest noise level sigma at which noise is added.
        s_noise: factor of the standard deviation of the added noise.
    """

    s_churn: float = 0.0
    s_min: float = 0.0
    s_max: float = math.inf
    s_noise: float = 1.0

    def gamma(self, sigma: float, steps: int) -> float:
        """Return the relative increase of the noise level before a step from `sigma`, in 0..sqrt(2) - 1.

        It is 0 outside s_min..s_max. `steps` is the number of steps in all.
        """
        inside = self.s_min <= sigma <= self.s_max
        return min(self.s_churn / steps, math.sqrt(2) - 1) if inside else 0.0


class _Step(NamedTuple):
    """Values at the start of a step.

    Attributes:
        x: noisy clips [B, ...] at the noise level `sigma`, both after churn.
        sigma, sigma_next: noise levels at start and end of the step.
        denoised: output of the denoiser for `x` and `sigma`.
        past: steps before this one since the last churn, the latest last; at most the `history` of the sampler.
    """

    x: Tensor
    sigma: float
    sigma_next: float
    denoised: Tensor
    past: "tuple[_Step, ...]"

    @property
    def d(self) -> Tensor:
        """Derivative dx / dsigma of the probability flow (Karras et al. 2022, eq. 3)."""
        return to_d(self.x, self.sigma, self.denoised)


class Sampler(Protocol):
    """Signature of the samplers, all steps of one method."""

    evaluations: Callable[[int], int]  # evaluations of the denoiser for a number of steps

    def __call__(
        self,
        denoiser: Denoiser,
        x: Tensor,
        sigmas: Sequence[float],
        *,
        noise: Noise | None = None,
        churn: Churn = Churn(),
        callback: Callback | None = None,
    ) -> Tensor:
        """Return clips [B, ...] at the last of `sigmas`, given `x` [B, ...] at the first.

        Args:
            denoiser: maps (x, sigma [B]) to clean data.
            x: clean data plus noise of standard deviation `sigmas[0]`.
            sigmas: decreasing noise levels, one more than steps, the last 0.
            noise: random numbers of the clips; None is allowed if the sampler is deterministic and there is no churn.
            churn: noise to add before each step; the default adds none.
            callback: called after each step.

        Raises:
            ValueError: `noise` is None but random numbers are needed.
        """


def to_d(x: Tensor, sigma: float, denoised: Tensor) -> Tensor:
    """Return the derivative dx / dsigma of the probability flow, [B, ...], at x with noise level `sigma` > 0."""
    return (x - denoised) / sigma


def _evaluate(denoiser: Denoiser, x: Tensor, sigma: float) -> Tensor:
    return denoiser(x, x.new_full((x.shape[0],), sigma))


def _normal(noise: Noise | None, x: Tensor) -> Tensor:
    if noise is None:
        raise ValueError("noise must be given for a stochastic sampler, got None")
    return noise.normal(tuple(x.shape[1:])).to(x)


def _sampler(history: int = 0, evaluations: Callable[[int], int] = lambda steps: steps) -> Callable[..., Sampler]:
    """Return a decorator that turns a function of one step into a `Sampler`, which does all steps.

    The function maps (step, denoiser, noise) to x at `step.sigma_next`. `step.denoised` is already evaluated.

    Args:
        history: largest number of previous steps in `step.past`, which churn empties.
        evaluations: function from the number of steps to the number of evaluations of the denoiser.
    """

    def decorate(advance: Callable[[_Step, Denoiser, Noise | None], Tensor]) -> Sampler:
        def sample(
            denoiser: Denoiser,
            x: Tensor,
            sigmas: Sequence[float],
            *,
            noise: Noise | None = None,
            churn: Churn = Churn(),
            callback: Callback | None = None,
        ) -> Tensor:
            steps = len(sigmas) - 1
            past: tuple[_Step, ...] = ()
            for index in range(steps):
                sigma, gamma = sigmas[index], churn.gamma(sigmas[index], steps)
                if gamma > 0:
                    sigma_hat = sigma * (1 + gamma)
                    x = x + math.sqrt(sigma_hat**2 - sigma**2) * churn.s_noise * _normal(noise, x)
                    sigma, past = sigma_hat, ()
                step = _Step(x, sigma, sigmas[index + 1], _evaluate(denoiser, x, sigma), past)
                x = advance(step, denoiser, noise)
                past = (*past, step._replace(past=()))[-history:] if history else ()
                if callback is not None:
                    callback(SamplerState(index + 1, steps, x, step.denoised))
            return x

        sample.__name__, sample.__doc__ = advance.__name__, advance.__doc__
        sampler: Sampler = sample  # type: ignore[assignment]
        sampler.evaluations = evaluations
        return sampler

    return decorate


@_sampler()
def sample_euler(step: _Step, denoiser: Denoiser, noise: Noise | None) -> Tensor:
    """Euler's method, first order; without churn it equals DDIM at eta 0 (Song et al. 2021, eq. 13)."""
    return step.x + (step.sigma_next - step.sigma) * step.d


@_sampler(evaluations=lambda steps: 2 * steps - 1)
def sample_heun(step: _Step, denoiser: Denoiser, noise: Noise | None) -> Tensor:
    """Heun's method, second order (Karras et al. 2022, algorithm 2).

    Each step has two evaluations of the denoiser, but a step to sigma 0 is a step of Euler's method with one.
    """
    d, h = step.d, step.sigma_next - step.sigma
    x_next = step.x + h * d
    if step.sigma_next == 0:
        return x_next
    d_next = to_d(x_next, step.sigma_next, _evaluate(denoiser, x_next, step.sigma_next))
    return step.x + h * (d + d_next) / 2


def _ancestral(step: _Step, noise: Noise | None, eta: float) -> Tensor:
    """Return x at `step.sigma_next` by Song et al. 2021, eq. 12 and 16, for x = x_t / sqrt(alphabar_t).

    `eta` is in 0..1: 1 for the posterior of DDPM, 0 for DDIM, which needs no `noise`.

    Raises:
        ValueError: `noise` is None but random numbers are needed.
    """
    sigma_up = eta * step.sigma_next * math.sqrt(max(0.0, 1 - (step.sigma_next / step.sigma) ** 2))
    sigma_down = math.sqrt(step.sigma_next**2 - sigma_up**2)
    d = step.d
    x = step.x - step.sigma * d + sigma_down * d
    return x + sigma_up * _normal(noise, x) if sigma_up > 0 else x


@_sampler()
def sample_ancestral(step: _Step, denoiser: Denoiser, noise: Noise | None) -> Tensor:
    """Ancestral sampling with the posterior variance (Ho et al. 2020, eq. 7), for any noise levels."""
    return _ancestral(step, noise, 1.0)


@_sampler()
def sample_ddim(step: _Step, denoiser: Denoiser, noise: Noise | None) -> Tensor:
    """DDIM at eta 0 (Song et al. 2021, eq. 12)."""
    return _ancestral(step, noise, 0.0)


@_sampler()
def sample_consistency(step: _Step, denoiser: Denoiser, noise: Noise | None) -> Tensor:
    """Multistep consistency sampling (Song et al. 2023, algorithm 1).

    Each step gives the denoised clips plus new noise of the next level; a step to sigma 0 gives the denoised clips.
    """
    return step.denoised + step.sigma_next * _normal(noise, step.x) if step.sigma_next > 0 else step.denoised


@_sampler(history=1)
def sample_dpmpp_2m(step: _Step, denoiser: Denoiser, noise: Noise | None) -> Tensor:
    """DPM-Solver++(2M), second order, multistep (Lu et al. 2022, algorithm 2), in lambda = -ln(sigma).

    The first step and every step after churn are of first order. A step to sigma 0 gives the denoised clips.
    """
    if step.sigma_next == 0:
        return step.denoised
    h = math.log(step.sigma / step.sigma_next)
    denoised = step.denoised
    if step.past:
        r = math.log(step.past[-1].sigma / step.sigma) / h
        denoised = denoised + (denoised - step.past[-1].denoised) / (2 * r)
    return step.sigma_next / step.sigma * step.x - math.expm1(-h) * denoised


ADAMS_BASHFORTH = ((1.0,), (3 / 2, -1 / 2), (23 / 12, -16 / 12, 5 / 12), (55 / 24, -59 / 24, 37 / 24, -9 / 24))


@_sampler(history=3)
def sample_ipndm(step: _Step, denoiser: Denoiser, noise: Noise | None) -> Tensor:
    """Improved pseudo linear multistep of up to order four (Zhang and Chen 2023, eq. 15 and appendix D).

    The order is 1 in the first step and after churn, then rises by 1 per step to 4. The coefficients are those of Adams
    and Bashforth for equal steps, although the steps in sigma differ.
    """
    slopes = [step.d, *(before.d for before in reversed(step.past))]
    weights = ADAMS_BASHFORTH[len(slopes) - 1]
    mixed = sum((weight * d for weight, d in zip(weights[1:], slopes[1:], strict=True)), weights[0] * slopes[0])
    return step.x + (step.sigma_next - step.sigma) * mixed


SAMPLERS: dict[str, Sampler] = {
    "heun": sample_heun,
    "euler": sample_euler,
    "ancestral": sample_ancestral,
    "ddim": sample_ddim,
    "dpmpp_2m": sample_dpmpp_2m,
    "ipndm": sample_ipndm,
}

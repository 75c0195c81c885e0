"""Samplers on a Gaussian mixture, whose denoiser is known exactly at every noise level."""

import itertools
import math

import pytest
import torch
from torch import Tensor

from training.diffusion.noise import BatchNoise
from training.diffusion.samplers import (
    Churn,
    sample_ancestral,
    sample_consistency,
    sample_ddim,
    sample_dpmpp_2m,
    sample_euler,
    sample_heun,
    sample_ipndm,
)
from training.diffusion.schedules import karras_sigmas, linear_alphabars, sigmas_of, strided_times

WEIGHTS = torch.tensor([0.3, 0.7], dtype=torch.float64)
MEANS = torch.tensor([[-1.0, 0.4], [0.8, -0.2]], dtype=torch.float64)
STDS = torch.tensor([0.25, 0.4], dtype=torch.float64)  # isotropic


def denoise(x: Tensor, sigma: Tensor) -> Tensor:
    """Return E[clean | x]: posterior-weighted linear shrinkage towards the mean of each component."""
    variance = STDS**2 + sigma.double()[:, None] ** 2  # [B, M]
    distance = x[:, None] - MEANS  # [B, M, 2]
    logit = WEIGHTS.log() - distance.square().sum(-1) / (2 * variance) - variance.log()
    clean = MEANS + (STDS**2 / variance)[..., None] * distance
    return (logit.softmax(1)[..., None] * clean).sum(1)


def mixture_moments() -> tuple[Tensor, Tensor]:
    mean = WEIGHTS @ MEANS
    centred = MEANS - mean
    covariance = torch.eye(2, dtype=torch.float64) * (WEIGHTS @ STDS**2)
    return mean, covariance + (WEIGHTS[:, None] * centred).T @ centred


class Double(BatchNoise):
    """Draws in float64."""

    def normal(self, shape: tuple[int, ...]) -> Tensor:
        return super().normal(shape).double()


def start(count: int, sigma: float) -> Tensor:
    return sigma * Double(0, count).normal((2,))


def flow_end(x: Tensor, sigma: Tensor) -> Tensor:
    """Return the exact consistency function, by 60 steps of Heun's method."""
    return sample_heun(denoise, x, karras_sigmas(60, 0.002, float(sigma[0])))


COUNT = 6_000
EDM_LEVELS = karras_sigmas(40, 0.002, 80)
DDPM_LEVELS = [float(v) for v in sigmas_of(linear_alphabars(1000))[strided_times(1000, 150)]]
RUNS = {
    "heun": lambda x: sample_heun(denoise, x, EDM_LEVELS),
    "heun with churn": lambda x: sample_heun(
        denoise, x, EDM_LEVELS, noise=Double(1, COUNT), churn=Churn(s_churn=10, s_min=0.05, s_max=50)
    ),
    "euler": lambda x: sample_euler(denoise, x, karras_sigmas(120, 0.002, 80)),
    "ancestral": lambda x: sample_ancestral(denoise, x, DDPM_LEVELS, noise=Double(2, COUNT)),
    "ddim": lambda x: sample_ddim(denoise, x, DDPM_LEVELS),
    "dpmpp_2m": lambda x: sample_dpmpp_2m(denoise, x, EDM_LEVELS),
    "ipndm": lambda x: sample_ipndm(denoise, x, EDM_LEVELS),
    "consistency": lambda x: sample_consistency(flow_end, x, [80, 3.0, 0.8, 0], noise=Double(3, COUNT)),
}


@pytest.mark.parametrize("name", RUNS)
def test_samples_have_the_mean_and_covariance_of_the_mixture(name: str) -> None:
    levels = DDPM_LEVELS if name in ("ancestral", "ddim") else EDM_LEVELS
    samples = RUNS[name](start(COUNT, levels[0]))
    mean, covariance = mixture_moments()
    error = 4 / math.sqrt(COUNT)  # four standard errors of a quantity of unit scale, and as much for discretisation
    assert (samples.mean(0) - mean).abs().max() < 2 * error
    assert (samples.T.cov() - covariance).abs().max() < 2 * error
    left = (samples[:, 0] < -0.3).double().mean()
    assert abs(float(left) - 0.3) < 2 * error


@pytest.mark.parametrize(
    ("sampler", "order"), [(sample_euler, 1.0), (sample_ddim, 1.0), (sample_heun, 2.0), (sample_dpmpp_2m, 2.0)]
)
def test_error_falls_with_the_order_of_the_method(sampler, order: float) -> None:
    """Global error against a solution with 4096 steps, on levels above 0."""
    x = start(64, 10.0)

    def solve(method, steps: int) -> Tensor:
        return method(denoise, x, karras_sigmas(steps + 1, 0.05, 10.0)[:-1])

    exact = solve(sample_heun, 4096)
    errors = [float((solve(sampler, steps) - exact).abs().mean()) for steps in (64, 128, 256)]
    orders = [math.log2(a / b) for a, b in itertools.pairwise(errors)]
    assert all(abs(found - order) < 0.2 for found in orders), (errors, orders)


def test_ipndm_beats_heun_at_equal_evaluations() -> None:
    """Coefficients for even steps reach the second order on these levels, with a smaller constant than Heun's."""
    x = start(64, 10.0)

    def solve(method, steps: int) -> Tensor:
        return method(denoise, x, karras_sigmas(steps + 1, 0.05, 10.0)[:-1])

    exact = solve(sample_heun, 4096)
    errors = {steps: float((solve(sample_ipndm, steps) - exact).abs().mean()) for steps in (32, 64, 128)}
    assert math.log2(errors[32] / errors[64]) > 1.8
    assert math.log2(errors[64] / errors[128]) > 1.8
    assert errors[64] < float((solve(sample_heun, 32) - exact).abs().mean())


def test_callbacks_receive_the_denoised_clips() -> None:
    states = []
    x = start(4, 1.0)
    sample_euler(denoise, x, [1.0, 0.5, 0.0], callback=states.append)
    assert torch.equal(states[0].denoised, denoise(x, torch.ones(4)))
    torch.testing.assert_close(states[1].x, states[1].denoised)  # the last Euler step ends in its estimate
    assert [(state.step, state.steps) for state in states] == [(1, 2), (2, 2)]


def test_ancestral_is_ddpm_as_published() -> None:
    """Equation 11 of Ho et al. 2020 in x_t itself, with posterior variance, step by step in float64."""
    alphabars = linear_alphabars(1000)
    times = list(range(1000, 0, -1))[-60:]  # from t = 60 down to 1
    sigma = float(sigmas_of(alphabars)[60])
    first = start(8, 1.0)
    noise = Double(5, 8)
    x = first.clone()
    for t in times:
        alpha, bar, before = alphabars[t] / alphabars[t - 1], alphabars[t], alphabars[t - 1]
        level = torch.full((8,), math.sqrt((1 - bar) / bar), dtype=torch.float64)
        scaled = x / bar.sqrt()
        epsilon = (scaled - denoise(scaled, level)) / level[:, None]
        x = (x - (1 - alpha) / (1 - bar).sqrt() * epsilon) / alpha.sqrt()
        if t > 1:
            x = x + ((1 - alpha) * (1 - before) / (1 - bar)).sqrt() * noise.normal((2,))
    levels = [float(v) for v in sigmas_of(alphabars)[range(60, -1, -1)]]
    ours = sample_ancestral(denoise, first * math.sqrt(1 + sigma**2), levels, noise=Double(5, 8))
    assert (ours - x).abs().max() < 1e-9


def test_ddim_is_euler() -> None:
    x = start(8, 20.0)
    levels = karras_sigmas(12, 0.01, 20.0)
    assert torch.allclose(sample_ddim(denoise, x, levels), sample_euler(denoise, x, levels), atol=1e-12)


def test_churn_raises_the_noise_level_only_inside_its_interval() -> None:
    churn = Churn(s_churn=4, s_min=0.1, s_max=2)
    assert churn.gamma(1.0, 40) == pytest.approx(4 / 40)
    assert churn.gamma(1.0, 8) == pytest.approx(math.sqrt(2) - 1)  # 4 / 8 exceeds the bound of algorithm 2
    assert churn.gamma(0.05, 40) == churn.gamma(3.0, 40) == 0


def test_heun_evaluates_twice_but_the_last_step_once() -> None:
    calls, seen = [], []

    def counted(x: Tensor, sigma: Tensor) -> Tensor:
        calls.append(float(sigma[0]))
        return denoise(x, sigma)

    levels = karras_sigmas(18, 0.002, 80)
    sample_heun(counted, start(2, 80.0), levels, callback=lambda state: seen.append((state.step, state.steps)))
    assert len(calls) == 35
    assert min(calls) == pytest.approx(0.002)
    assert seen == [(step, 18) for step in range(1, 19)]


def test_stochastic_samplers_require_noise() -> None:
    x, levels = start(2, 1.0), karras_sigmas(4, 0.01, 1.0)
    with pytest.raises(ValueError, match="noise must be given"):
        sample_ancestral(denoise, x, levels)
    with pytest.raises(ValueError, match="noise must be given"):
        sample_heun(denoise, x, levels, churn=Churn(s_churn=1))

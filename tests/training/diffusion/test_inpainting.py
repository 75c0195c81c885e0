"""Inpainting on a correlated Gaussian, whose denoiser and conditional distribution are known exactly."""

import pytest
import torch
from torch import Tensor

from training.diffusion.inpainting import Known, sample_inpaint
from training.diffusion.noise import BatchNoise
from training.diffusion.schedules import karras_sigmas

CORRELATION, GIVEN, COUNT = 0.8, 1.5, 4000
COVARIANCE = torch.tensor([[1, CORRELATION], [CORRELATION, 1]], dtype=torch.float64)
SIGMAS = karras_sigmas(18, 0.002, 80)
KNOWN = Known(torch.tensor([[GIVEN, 0.0]], dtype=torch.float64), torch.tensor([True, False]))


class Double(BatchNoise):
    """Draws in float64."""

    def normal(self, shape: tuple[int, ...]) -> Tensor:
        return super().normal(shape).double()


def denoise(x: Tensor, sigma: Tensor) -> Tensor:
    """Return E[clean | x] = C (C + sigma^2)^-1 x."""
    return x @ torch.linalg.solve(COVARIANCE + sigma[0] ** 2 * torch.eye(2, dtype=torch.float64), COVARIANCE)


def inpaint(resamples: int, callback=None) -> Tensor:
    noise = Double(0, COUNT)
    x = SIGMAS[0] * noise.normal((2,))
    return sample_inpaint(denoise, x, SIGMAS, KNOWN, noise=noise, resamples=resamples, callback=callback)


def test_given_frames_are_returned_unchanged():
    assert (inpaint(1)[:, 0] == GIVEN).all()


def test_resampling_approaches_the_conditional_distribution():
    """Mean rho * given, variance 1 - rho^2; replacement alone ignores most of the correlation (Lugmayr et al. 2022)."""
    errors = [abs(float(inpaint(resamples)[:, 1].mean()) - CORRELATION * GIVEN) for resamples in (1, 3, 10)]
    assert errors[0] > errors[1] > errors[2]
    assert errors[2] < 0.15
    assert float(inpaint(10)[:, 1].std()) == pytest.approx((1 - CORRELATION**2) ** 0.5, abs=0.06)


def test_every_step_is_reported_once():
    seen = []
    inpaint(2, callback=lambda state: seen.append((state.step, state.steps)))
    assert seen == [(step, 18) for step in range(1, 19)]

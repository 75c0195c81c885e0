"""Errors of a denoiser beside a Wiener filter, against closed forms."""

import pytest
import torch

from bench.denoiser import fit_wiener, group_errors, wiener


def test_the_filter_of_white_noise_has_the_error_of_theory() -> None:
    generator = torch.Generator().manual_seed(0)
    scale = torch.tensor([1.0, 0.25])[:, None]
    x = 3 + scale * torch.randn(2000, 2, 64, generator=generator)
    noisy = x + 0.5 * torch.randn(x.shape, generator=generator)
    error = (wiener(noisy, 0.5, *fit_wiener(x)) - x).square().mean((0, 2))
    variance = scale[:, 0] ** 2
    torch.testing.assert_close(error, variance * 0.25 / (variance + 0.25), rtol=0.02, atol=0)


def test_the_filter_passes_a_clip_whose_spectrum_is_far_above_the_noise() -> None:
    tone = torch.cos(2 * torch.pi * 4 * torch.arange(64) / 64)
    x = torch.tensor([1.0, -1.0])[:, None, None] * 100 * tone
    torch.testing.assert_close(wiener(x, 0.01, *fit_wiener(x)), x, rtol=1e-4, atol=1e-3)


def test_the_mean_as_estimate_has_weighted_errors_by_band() -> None:
    clean = torch.ones(2, 4, 8)
    clean[:, 2:] = 2
    # weight (1 + 0.25) / 0.25 = 5 at sigma 1 and sigma_data 0.5
    assert group_errors(torch.zeros_like(clean), clean, 1.0, 0.5, 2) == pytest.approx([12.5, 5.0, 20.0])

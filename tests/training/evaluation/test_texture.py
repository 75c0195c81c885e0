"""Noise within held notes: a comb of sines with known noise, latents with known steps."""

from fractions import Fraction

import numpy as np
import pytest
import torch

from training.evaluation.features import extract_features
from training.evaluation.targets import control_targets
from training.evaluation.texture import harmonic_to_between, held_frames, latent_steps

FRAMES = 150  # of controls, at 75 Hz
SAMPLES = 48_000


def targets():
    """A note of instrument 1 from 0.4 s to 1.6 s."""
    velocity = np.zeros(FRAMES)
    velocity[30:120] = 0.5
    chroma = np.where(velocity > 0, 9 / 11, 0.0)
    instruments = np.zeros((3, FRAMES))
    instruments[1] = 1
    controls = {"velocity": velocity, "chroma": chroma, "instruments": instruments}
    return control_targets(controls, Fraction(75), SAMPLES // 240)


def comb(noise: float) -> torch.Tensor:
    time = np.arange(SAMPLES) / 24_000
    wave = sum(0.1 * np.sin(2 * np.pi * 440 * k * time) for k in range(1, 11))
    wave = wave + noise * np.random.default_rng(0).standard_normal(SAMPLES)
    return torch.from_numpy(wave)[None, None].float()


def test_held_frames_leave_out_the_ends_of_a_note():
    held = np.flatnonzero(held_frames(targets())) * 0.01
    assert held.min() == pytest.approx(0.5, abs=0.03)
    assert held.max() == pytest.approx(1.5, abs=0.03)


def test_ten_times_the_noise_lowers_the_ratio_by_twenty_db():
    ratios = []
    for noise in (0.001, 0.01):
        audio = comb(noise)
        sums = harmonic_to_between(audio, extract_features(audio), [targets()], 3)
        assert sums[0, 1] == sums[2, 1] == 0
        ratios.append(sums[1, 0] / sums[1, 1])
    assert ratios[0] - ratios[1] == pytest.approx(20, abs=1)
    # A sine of amplitude a has a^2 (sum w)^2 / 4 at its peak, noise of deviation s has s^2 sum w^2.
    window = np.hanning(4096)
    expected = 10 * np.log10(0.01 * window.sum() ** 2 / 4 / (1e-4 * np.square(window).sum()))
    assert ratios[1] == pytest.approx(expected, abs=1.5)


def test_latent_steps_are_measured_in_held_frames_alone():
    latents = torch.zeros(1, 4, FRAMES)
    latents[..., :34] = torch.randn(1, 4, 34, generator=torch.Generator().manual_seed(0))
    latents[..., 60:] = 2.0
    total, count = latent_steps(latents, [targets()])
    assert count == pytest.approx(75, abs=4)  # a second at 75 Hz
    assert total == pytest.approx(2.0)

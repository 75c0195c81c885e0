"""Learning rate and averaged weights as functions of the step."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import nn

from training.ema import EMA, PowerEMA, learning_rate, power_exponent, reconstruct


def test_the_rate_rises_stays_and_falls():
    rates = [learning_rate(step, 2.0, 10, 100) for step in range(1, 401)]
    assert rates[0] == pytest.approx(0.2)
    assert rates[9:100] == [2.0] * 91
    assert rates[399] == pytest.approx(1.0)  # four times as far, half the rate
    assert all(a >= b for a, b in pairwise(rates[99:]))
    assert learning_rate(10**6, 2.0, 10, 0) == 2.0
    assert learning_rate(1, 2.0, 0, 0) == 2.0


def test_averages_follow_the_recursion():
    source = nn.Linear(3, 2)
    average = EMA(source, 0.9)
    expected = source.weight.detach().clone()
    for step in range(1, 200):
        with torch.no_grad():
            source.weight.normal_()
        average.update(step)
        decay = min(0.9, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * source.weight.detach()
    assert torch.allclose(average.network.weight, expected, atol=1e-6)
    assert not average.network.weight.requires_grad
    assert not average.network.training


def test_early_steps_are_forgotten():
    source = nn.Linear(1, 1, bias=False)
    nn.init.constant_(source.weight, 100.0)
    average = EMA(source, 0.9999)
    nn.init.constant_(source.weight, 1.0)
    for step in range(1, 201):
        average.update(step)
    assert float(average.network.weight) == pytest.approx(1.0, abs=0.01)


def profile(std, steps):
    """Weights of steps 1..t in the average of relative width `std`, from its definition."""
    edges = np.arange(steps + 1.0) ** (power_exponent(std) + 1)
    return np.diff(edges) / edges[-1]


def test_power_averages_have_the_width_asked_for():
    for std in (0.05, 0.1, 0.2):
        weights, times = profile(std, 20_000), np.arange(1, 20_001) / 20_000
        mean = (weights * times).sum()
        assert np.sqrt((weights * (times - mean) ** 2).sum()) == pytest.approx(std, rel=1e-3)


def test_other_widths_are_reconstructed_from_two():
    source, values = nn.Linear(1, 1, bias=False), []
    averages, stored = PowerEMA(source, (0.05, 0.1)), []
    generator = torch.Generator().manual_seed(0)
    for step in range(1, 801):
        with torch.no_grad():
            source.weight += 0.1 * torch.randn(1, 1, generator=generator)
        values.append(float(source.weight.detach()))
        averages.update(step)
        if step % 50 == 0:
            stored += [
                (step, std, {name: value.clone() for name, value in one.items()})
                for std, one in zip(averages.stds, averages.averages, strict=True)
            ]
    for std in (0.05, 0.1):
        exact = float((profile(std, 800) * values).sum())
        assert float(reconstruct(stored, std)["weight"]) == pytest.approx(exact, abs=2e-3)
    exact = float((profile(0.15, 800) * values).sum())
    assert float(reconstruct(stored, 0.15)["weight"]) == pytest.approx(exact, abs=0.05)

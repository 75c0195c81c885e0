"""Learning rate and averaged weights as functions of the step."""

from itertools import pairwise

import pytest
import torch
from torch import nn

from training.ema import EMA, learning_rate


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

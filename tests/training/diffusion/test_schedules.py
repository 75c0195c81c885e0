"""Schedules against their equations."""

import itertools
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from data_specs.errors import UserError
from training.diffusion.schedules import (
    SCHEDULES,
    cosine_alphabars,
    karras_sigmas,
    linear_alphabars,
    sigmas_of,
    strided_times,
    with_signal_left,
)


def test_linear_is_the_product_of_its_alphas() -> None:
    bars = linear_alphabars(1000)
    product = 1.0
    for t in range(1, 1001):
        product *= 1 - (1e-4 + (0.02 - 1e-4) * (t - 1) / 999)
        assert float(bars[t]) == pytest.approx(product, rel=1e-12)


def test_cosine_at_its_ends_and_middle() -> None:
    bars = cosine_alphabars(1000)
    assert bars[0] == 1
    assert bars[1000] == 0

    def f(t: int) -> float:
        return math.cos((t / 1000 + 0.008) / 1.008 * math.pi / 2) ** 2

    assert float(bars[500]) == pytest.approx(f(500) / f(0), rel=1e-12)


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("steps", [10, 1000])
def test_signal_decreases(name: str, steps: int) -> None:
    bars = SCHEDULES[name](steps)
    assert len(bars) == steps + 1
    assert (bars[1:] < bars[:-1]).all()
    kept = with_signal_left(bars)
    assert float(sigmas_of(kept).max()) < 160
    assert torch.equal(kept[bars > 4e-5], bars[bars > 4e-5])


def test_karras_levels_at_their_ends() -> None:
    levels = karras_sigmas(18, 0.002, 80)
    assert len(levels) == 19
    assert levels[0] == pytest.approx(80)
    assert levels[17] == pytest.approx(0.002)
    assert levels[18] == 0
    roots = [level ** (1 / 7) for level in levels[:-1]]
    gaps = [a - b for a, b in itertools.pairwise(roots)]
    assert max(gaps) - min(gaps) < 1e-12


@given(st.integers(1, 1000), st.data())
def test_strides_go_from_the_end_to_zero(total: int, data: st.DataObject) -> None:
    steps = data.draw(st.integers(1, total))
    times = strided_times(total, steps)
    assert times[0] == total
    assert times[-1] == 0
    assert len(times) == steps + 1
    assert all(a > b for a, b in itertools.pairwise(times))


def test_impossible_schedules_are_refused() -> None:
    with pytest.raises(UserError, match="SAMPLER_STEPS= must be from 1 to 1000, got 1001"):
        strided_times(1000, 1001)
    with pytest.raises(UserError, match="must satisfy 0 < sigma_min < sigma_max"):
        karras_sigmas(5, 2.0, 1.0)

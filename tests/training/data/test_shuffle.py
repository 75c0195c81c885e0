"""The order of clips is a permutation, a function of position, and looks random."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.data.shuffle import clips_at, hashed, order, seed_of, uniform


@given(st.integers(1, 3000), st.integers(0, 2**40), st.integers(0, 1000))
def test_every_pass_takes_each_clip_once(n, seed, pass_):
    assert sorted(order(seed, pass_, n)) == list(range(n))


def test_a_clip_depends_on_its_position_alone():
    whole = clips_at(np.arange(5000), 700, seed=3)
    for start, stop in ((0, 1), (699, 702), (1234, 2345), (4999, 5000)):
        assert np.array_equal(clips_at(np.arange(start, stop), 700, seed=3), whole[start:stop])
    assert np.array_equal(clips_at(np.arange(1, 5000, 2), 700, seed=3), whole[1::2])  # the second of two ranks
    assert np.array_equal(whole[700:1400], order(3, 1, 700))


def test_passes_and_seeds_differ():
    assert (order(0, 0, 1000) == order(0, 1, 1000)).mean() < 0.02
    assert (order(0, 0, 1000) == order(1, 0, 1000)).mean() < 0.02


@pytest.mark.parametrize("n", [2, 3, 5, 16, 17])
def test_every_clip_is_first_equally_often(n):
    passes = 4000
    first = clips_at(np.arange(passes) * n, n, seed=11)
    counts = np.bincount(first, minlength=n)
    chi_squared = ((counts - passes / n) ** 2 / (passes / n)).sum()
    assert chi_squared < n - 1 + 5 * np.sqrt(2 * (n - 1)) + 5


def test_neighbours_are_not_kept_together():
    places = np.argsort(order(5, 0, 10_000))
    assert abs(np.corrcoef(np.arange(10_000), places)[0, 1]) < 0.05
    assert abs(np.diff(places)).mean() == pytest.approx(10_000 / 3, rel=0.05)  # as for independent uniform places


def test_uniform_is_flat_and_independent_between_streams():
    positions = np.arange(100_000)
    a, b = uniform(0, "velocity", positions), uniform(0, "chroma", positions)
    assert a.min() >= 0
    assert a.max() < 1
    assert np.abs(np.histogram(a, 20)[0] - 5000).max() < 5 * np.sqrt(5000)
    assert abs(np.corrcoef(a, b)[0, 1]) < 0.02
    assert abs(np.corrcoef(a[1:], a[:-1])[0, 1]) < 0.02


def test_keys_are_ordered_and_separate():
    assert len({int(hashed(*keys)) for keys in ((1, 2), (2, 1), (0, 1, 2), (1, 2, 0), (3,), (12,), (1,))}) == 7
    assert 0 <= seed_of(-1, "x") < 2**63


def test_values_stay_what_they_are():
    """A change here changes the order of every run that is to be continued."""
    assert order(0, 0, 10).tolist() == GOLDEN


GOLDEN = [6, 5, 3, 4, 2, 0, 9, 8, 7, 1]

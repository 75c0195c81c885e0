"""Statistics merge exactly, scalings standardise and come back."""

import json

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from data_specs.errors import UserError
from data_specs.representations.audio import Audio
from data_specs.representations.base import STD_FLOOR, Representation, Scaling, Statistics
from data_specs.representations.cqt import Cqt


class Channels(Audio):
    """Any [C, T] array with a scale for each channel."""


def data(seed: int = 0) -> np.ndarray:
    """[clips, C, T] with channels that differ in mean and spread; the last is constant."""
    rng = np.random.default_rng(seed)
    spread, mean = np.array([1.0, 0.1, 5.0, 0.0]), np.array([3.0, -0.2, 40.0, 0.7])
    return (rng.standard_normal((40, 4, 50)) * spread[:, None] + mean[:, None]).astype(np.float32)


def cqt_data(seed: int = 0) -> np.ndarray:
    """[clips, 2, F, T], louder in low bins."""
    rng = np.random.default_rng(seed)
    return (rng.standard_normal((30, 2, 6, 40)) * np.geomspace(10, 1, 6)[:, None]).astype(np.float32)


def test_statistics_are_those_of_each_channel() -> None:
    values = data()
    statistics = Channels().statistics(values)
    assert statistics.mean.shape == statistics.std.shape == (4, 1)
    assert np.allclose(statistics.mean[:, 0], values.astype(np.float64).mean(axis=(0, 2)), rtol=1e-12)
    assert np.allclose(statistics.std[:, 0], values.astype(np.float64).std(axis=(0, 2)), rtol=1e-9, atol=1e-9)
    assert np.allclose(statistics.rms[:, 0], np.sqrt(np.square(values.astype(np.float64)).mean(axis=(0, 2))))


def test_statistics_merge_and_survive_json_exactly() -> None:
    values = data()
    whole = Channels().statistics(values)
    parts = [Channels().statistics(part) for part in np.array_split(values, 7)]
    merged = sum(parts[1:], parts[0])
    assert merged.count == whole.count == 40 * 50
    assert np.allclose(merged.std, whole.std, rtol=1e-12)
    again = Statistics.from_json(json.loads(json.dumps(merged.to_json())))
    assert np.array_equal(again.total, merged.total)
    assert np.array_equal(again.squares, merged.squares)
    assert again.count == merged.count


@pytest.mark.parametrize("broken", [{}, {"count": 3, "total": ["x"], "squares": [[1.0]]}, {"count": None}])
def test_broken_statistics_are_named(broken: dict[str, object]) -> None:
    with pytest.raises(UserError, match=r"dataset\.json cannot be read"):
        Statistics.from_json(broken)


@pytest.mark.parametrize(("kind", "made"), [(Channels(), data), (Cqt(), cqt_data)], ids=["channels", "cqt"])
@pytest.mark.parametrize("sigma_data", [0.5, 1.0])
def test_standardised_data_has_the_target_spread(kind: Representation, made: object, sigma_data: float) -> None:
    assert callable(made)
    values = made()
    statistics = kind.statistics(values)
    scaling = kind.scaling(statistics, sigma_data)
    unit = scaling.to_model(torch.from_numpy(values)).double().numpy()
    axes = (0, *(axis % (values.ndim - 1) + 1 for axis in kind.pooled_axes()))
    spread, mean = unit.std(axis=axes), unit.mean(axis=axes)
    above = (statistics.std > STD_FLOOR * statistics.std.max()).reshape(spread.shape)
    assert np.allclose(spread[above], sigma_data, rtol=0.01)
    assert np.all(spread[~above] < sigma_data)
    assert np.allclose(mean, 0, atol=0.05 * sigma_data)
    other = scaling.to_model(torch.from_numpy(made(1))).double().numpy()
    assert other.std(axis=axes)[above] == pytest.approx(sigma_data, rel=0.25)


def test_near_silent_channels_are_not_blown_up_to_noise() -> None:
    values = data()
    values[:, 3] += 1e-4 * np.random.default_rng(2).standard_normal((40, 50)).astype(np.float32)
    scaling = Channels().scaling(Channels().statistics(values), 0.5)
    assert scaling.std[3, 0] == pytest.approx(STD_FLOOR * scaling.std.max())
    assert scaling.to_model(torch.from_numpy(values))[:, 3].std() < 0.01


def test_cqt_keeps_zero_and_the_ratio_of_real_to_imaginary_part() -> None:
    values = cqt_data() + np.array([0.5, 0.0], np.float32)[:, None, None]  # a mean that must stay
    statistics = Cqt().statistics(values)
    scaling = Cqt().scaling(statistics, 0.5)
    assert scaling.std.shape == (1, 6, 1)
    bins = np.moveaxis(values.astype(np.float64), 2, 0).reshape(6, -1)
    assert np.allclose(scaling.std[0, :, 0], np.sqrt(np.square(bins).mean(axis=1)))
    assert not scaling.to_model(torch.zeros(1, 2, 6, 3)).any()
    unit = scaling.to_model(torch.from_numpy(values))
    assert torch.allclose(
        torch.atan2(unit[:, 1], unit[:, 0]), torch.atan2(*torch.from_numpy(values).unbind(1)[::-1]), atol=1e-5
    )


@given(st.integers(0, 1000), st.sampled_from([0.5, 1.0]), st.sampled_from([1.0, 0.5, 0.8]))
def test_from_model_undoes_to_model(seed: int, sigma_data: float, power: float) -> None:
    values = torch.from_numpy(data(seed))
    scaling = Channels().scaling(Channels().statistics(data(seed)), sigma_data, power)
    back = scaling.from_model(scaling.to_model(values))
    # Float32 rounds relative to the largest term: the mean, the value, and, companded, the roots and powers of it.
    largest = values.abs() + torch.from_numpy(np.abs(scaling.mean) + scaling.std).float()
    assert ((back - values).abs() / largest).max() < (4 if power == 1 else 40) * 2**-23
    assert back.dtype == torch.float32


def test_companding_keeps_sign_and_one_standard_deviation() -> None:
    scaling = Scaling(np.zeros((1, 1)), np.ones((1, 1)), 0.5, power=0.5)
    made = scaling.to_model(torch.tensor([[[-4.0, -1.0, 0.0, 1.0, 0.25]]]))
    assert made.flatten().tolist() == [-1.0, -0.5, 0.0, 0.5, 0.25]


def test_stored_halves_and_integers_become_floats() -> None:
    scaling = Scaling(np.array([[1.0]]), np.array([[2.0]]), 0.5)
    for dtype in (torch.float16, torch.int16, torch.float64):
        made = scaling.to_model(torch.tensor([[[3, 1]]], dtype=dtype))
        assert made.dtype == torch.float32
        assert made.tolist() == [[[0.5, 0.0]]]


def test_data_without_spread_is_refused() -> None:
    with pytest.raises(UserError, match="one value only"):
        Channels().scaling(Channels().statistics(np.ones((2, 3, 4), np.float32)), 0.5)


def test_one_scale_keeps_the_channels_sizes_to_each_other() -> None:
    class Directions(Channels):
        one_scale = True

    values = data()
    statistics = Directions().statistics(values)
    unit = Directions().scaling(statistics, 0.5).to_model(torch.from_numpy(values)).double().numpy()
    assert np.allclose(unit.mean(axis=(0, 2)), 0, atol=1e-4)
    spread = unit.std(axis=(0, 2))
    assert np.sqrt(np.square(spread).mean()) == pytest.approx(0.5, rel=1e-3)
    assert np.allclose(spread[:3] / spread[0], statistics.std[:3, 0] / statistics.std[0, 0], rtol=1e-3)

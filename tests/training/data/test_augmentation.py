"""Coarser curves in training: the filters against plain loops, rests, shares, and what the network is told."""

import numpy as np
import pytest
import torch

from data_specs.errors import UserError
from tests.training.small_networks import LAYOUT, SMALL, perturbed
from training.conditioning import ControlLayout
from training.config import Training, load_config
from training.data.augmentation import (
    AUGMENTED,
    augment_curves,
    blurred,
    decimated,
    median_filtered,
    piecewise_linear,
    strengths,
    without_rests,
)
from training.data.dataset import Dataset
from training.data.loader import BatchBuilder
from training.diffusion_task import DiffusionTask
from training.networks import build_network


def windows(curve, width):
    """Values around each frame, the ends repeated."""
    frames = np.arange(len(curve))[:, None] + np.arange(width) - (width - 1) // 2
    return curve[frames.clip(0, len(curve) - 1)]


@pytest.mark.parametrize("width", [2, 3, 8, 37])
def test_filters_equal_plain_ones(width):
    curve = np.random.default_rng(width).random(50).astype(np.float32)
    frames = np.arange(50)
    given = torch.from_numpy(curve)
    lower = np.sort(windows(curve, width))[:, (width - 1) // 2]
    np.testing.assert_array_equal(median_filtered(given, width), lower)
    np.testing.assert_allclose(blurred(given, width), windows(curve, width).mean(1), atol=1e-6)
    np.testing.assert_array_equal(decimated(given, width), curve[frames - frames % width])
    knots = np.unique([*frames[::width], 49])
    np.testing.assert_allclose(piecewise_linear(given, width), np.interp(frames, knots, curve[knots]), atol=1e-6)


def test_rests_hold_the_value_before_them():
    curve = torch.tensor([0.0, 0.0, 0.3, 0.4, 0.0, 0.0, 0.9, 0.0])
    torch.testing.assert_close(without_rests(curve), torch.tensor([0.3, 0.3, 0.3, 0.4, 0.4, 0.4, 0.9, 0.9]))
    assert not without_rests(torch.zeros(4)).any()


def test_rests_other_controls_and_clips_of_strength_0_stay_as_they_are(dataset_controls):
    layout, controls = dataset_controls
    before = controls.clone()
    strength = np.array([0.0, 0.6, 1.0, 0.3])
    augment_curves(controls, layout, strength, np.arange(4), 0, 75.0)
    assert torch.equal(controls[0], before[0])
    for name, rows in layout.split(controls).items():
        was = layout.split(before)[name]
        if name not in AUGMENTED:
            assert torch.equal(rows, was)
        else:
            assert all((rows[clip] != was[clip]).any() for clip in (1, 2, 3))
            assert rows.min() >= was.min()
            assert rows.max() <= was.max()
        if name in ("velocity", "pitch"):
            assert torch.equal(rows == 0, was == 0)
    again = before.clone()
    augment_curves(again[2:], layout, strength[2:], np.arange(2, 4), 0, 75.0)
    assert torch.equal(again[2:], controls[2:])  # a function of the position, not of the batch


@pytest.fixture
def dataset_controls():
    layout = ControlLayout((("velocity", 1), ("chroma", 1), ("pitch", 1), ("brightness", 1), ("instruments", 3)))
    controls = 0.1 + 0.8 * torch.rand(4, layout.total, 150, generator=torch.Generator().manual_seed(0))
    controls[:, :3, 40:60] = 0
    return layout, controls


def test_strengths_have_their_share_and_are_uniform():
    found = strengths(np.arange(4000), 3, 0.4)
    assert (found > 0).mean() == pytest.approx(0.4, abs=0.03)
    assert found[found > 0].mean() == pytest.approx(0.5, abs=0.03)
    assert found.max() <= 1


def test_batches_tell_the_strength_in_a_further_row(encodec_data):
    training = Training(steps=2, batch=6, seconds=2, seed=5, control_dropout=0.0)
    plain = BatchBuilder(Dataset(encodec_data[0]), training, 6).train(np.arange(6)).controls.clone()
    augmented = training.model_copy(update={"curve_augmentation": 0.5})
    told = BatchBuilder(Dataset(encodec_data[0]), augmented, 6).train(np.arange(6)).controls
    assert told.shape == (6, plain.shape[1] + 1, 150)
    strength = told[:, -1]
    assert torch.equal(strength, strength[:, :1].expand(-1, 150))
    assert 0 < (strength[:, 0] > 0).sum() < 6
    changed = (told[:, :-1] != plain).flatten(1).any(1)
    assert changed.any()
    assert not changed[strength[:, 0] == 0].any()


def test_a_network_takes_strength_0_where_none_is_given():
    network = perturbed(build_network(SMALL | {"augmented": True}, (3, 16), LAYOUT))
    x, controls = torch.randn(2, 3, 16), torch.rand(2, 5, 16)
    outputs = [network(x, torch.zeros(2), torch.cat([controls, torch.full((2, 1, 16), s)], 1)) for s in (0.0, 0.7)]
    assert torch.equal(network(x, torch.zeros(2), controls), outputs[0])
    assert (outputs[1] - outputs[0]).abs().max() > 1e-3


def test_augmentation_needs_a_network_that_takes_its_strength(encodec_data):
    data = Dataset(encodec_data[0])
    both = "training.curve_augmentation=0.3 network.augmented=true"
    DiffusionTask(load_config("tiny", "edm", "encodec", overrides=both), data)
    with pytest.raises(UserError, match=r"must be 0 unless network.augmented = true"):
        DiffusionTask(load_config("tiny", "edm", "encodec", overrides="training.curve_augmentation=0.3"), data)

"""The layout of controls: stacking, slicing and leaving features free."""

import pytest
import torch

from data_specs.errors import UserError
from training.conditioning import ControlLayout

LAYOUT = ControlLayout.from_shapes({"velocity": (9,), "chroma": (9,), "instruments": (3, 9)})


def test_rows_follow_the_shapes() -> None:
    assert LAYOUT.rows == (("velocity", 1), ("chroma", 1), ("instruments", 3))
    assert LAYOUT.total == 5
    assert LAYOUT.slice("instruments") == slice(2, 5)


def test_stack_and_split_are_inverse() -> None:
    features = {"velocity": torch.rand(2, 9), "chroma": torch.rand(2, 9), "instruments": torch.rand(2, 3, 9)}
    parts = LAYOUT.split(LAYOUT.stack(features))
    assert torch.equal(parts["velocity"][:, 0], features["velocity"])
    assert torch.equal(parts["instruments"], features["instruments"])


def test_a_feature_left_out_says_nothing() -> None:
    stacked = LAYOUT.stack({"chroma": torch.rand(2, 9)})
    assert (stacked[:, [0, 2, 3, 4]] == -1).all()
    assert (stacked[:, 1] >= 0).all()


def test_without_frees_a_copy() -> None:
    controls = torch.rand(2, 5, 9)
    free = LAYOUT.without(controls, ["instruments"])
    assert (free[:, 2:] == -1).all()
    assert torch.equal(free[:, :2], controls[:, :2])
    assert (controls >= 0).all()


def test_unknown_features_are_named() -> None:
    with pytest.raises(UserError, match="no control feature 'pitch'; choose from velocity, chroma, instruments"):
        LAYOUT.stack({"pitch": torch.rand(2, 9)})
    with pytest.raises(UserError, match="at least one control feature"):
        LAYOUT.stack({})

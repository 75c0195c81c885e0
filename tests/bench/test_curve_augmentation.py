"""Comparison of curve augmentation: curves to follow, the strength that is told, and the rows of the table."""

import numpy as np
import pytest
import torch

from bench.curve_augmentation import ENTRIES, ToldModel, cases, coarser, table
from training.config import load_config
from training.model import TrainedModel


def curves() -> dict[str, torch.Tensor]:
    zigzag = torch.tensor([0.2, 0.8]).repeat(50).expand(8, -1)
    velocity = zigzag.clone()
    velocity[:, 20:40] = 0
    return {"velocity": velocity, "brightness": zigzag, "instruments": torch.ones(8, 3, 100), "data": zigzag}


def test_strength_0_changes_no_curve() -> None:
    given = curves()
    found = coarser(given, 0.0, np.arange(8), 100)
    assert found.keys() == {"velocity", "brightness"}
    assert all(torch.equal(found[name], given[name]) for name in found)


def test_strength_1_smooths_curves_and_keeps_rests() -> None:
    given = curves()
    found = coarser(given, 1.0, np.arange(8), 100)
    assert torch.equal(found["velocity"] == 0, given["velocity"] == 0)
    for name in found:
        inner = found[name][:, 45:95]  # one note
        assert (inner.diff().abs().mean(1) < 0.1).all()  # 0.6 before


def test_strength_is_told_as_the_last_control_row(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    monkeypatch.setattr(TrainedModel, "sample_controls", lambda self, controls, *rest, **more: seen.append(controls))
    model = TrainedModel(network=None, paradigm=None, config=None, data=None, step=0, train_seconds=0.0)  # type: ignore[arg-type]
    controls = torch.rand(2, 7, 5)
    ToldModel.of(model, 0.5).sample_controls(controls, 1600)
    assert torch.equal(seen[0], torch.cat([controls, torch.full((2, 1, 5), 0.5)], 1))


def test_both_models_differ_in_the_augmentation_alone() -> None:
    plain, augmented = (
        load_config(str(one.config), one.paradigm, one.format, overrides=one.overrides) for one in ENTRIES
    )
    assert augmented.training == plain.training.model_copy(update={"curve_augmentation": 0.3})
    assert augmented.network == {**plain.network, "augmented": True}


def test_only_the_augmented_network_is_told_a_strength() -> None:
    found = [(entry.name, strength, told) for entry, strength, told in cases()]
    assert [case for case in found if case[2]] == [("augmented", 0.5, 0.5), ("augmented", 1.0, 1.0)]
    assert len(found) == 8


def test_the_table_gives_the_filter_in_seconds() -> None:
    row = {
        "run": "plain", "steps": 9, "strength": 0.5, "told": 0.0, "reported": 4,
        "fad": {"pvt-net": {"train": {"value": 61.25}}}, "adherence": {"onsets": 0.75, "instrument": None},
    }  # fmt: skip
    lines = table([row]).splitlines()
    assert "instrument" not in lines[0]
    assert lines[2] == "| plain | 9 | 0.25 | 0 | 4 | 61.2 | 0.750 |"

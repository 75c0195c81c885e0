"""The few-step student that comes with the project, the default model."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

from data_specs.errors import UserError
from data_specs.io.files import file_sha256
from tests.training.test_shipped_snapshot import CURVES
from training.checkpoint import find_snapshot
from training.model import TrainedModel, load_model
from training.runs import SNAPSHOTS, shipped_model

FILE = SNAPSHOTS / "consistency-phaseless.safetensors"


@pytest.fixture(scope="module")
def student() -> TrainedModel:
    return load_model()


def test_its_card_names_its_digest() -> None:
    card = FILE.with_suffix(".md").read_text(encoding="utf-8")
    assert re.findall(r"\b[0-9a-f]{64}\b", card) == [file_sha256(FILE)]
    assert FILE.stat().st_size <= 16e6


def test_shipped_models_have_names_unless_a_run_has_them(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert find_snapshot(Path("few-steps")) == shipped_model() == FILE
    assert find_snapshot(Path("edm")) == SNAPSHOTS / "edm-phaseless.safetensors"
    Path("few-steps").mkdir()  # such as a folder of samples
    assert find_snapshot(Path("few-steps")) == FILE
    Path("few-steps/checkpoints").mkdir()
    with pytest.raises(UserError, match="no snapshot in few-steps"):
        find_snapshot(Path("few-steps"))


def test_it_takes_the_controls_of_its_teacher_in_two_evaluations(student: TrainedModel) -> None:
    assert student.data.controls == load_model("edm").data.controls
    assert student.paradigm.evaluations(None) == 2


def test_loudness_follows_the_velocity_drawn(student: TrainedModel) -> None:
    torch.set_num_threads(1)
    audio = student.sample(CURVES, seconds=4, n=3, seed=1)[:, 0].numpy()
    level = np.sqrt(np.square(audio.reshape(3, 64, 1500)).mean(-1))
    drawn = np.interp((np.arange(64) + 0.5) / 16, [0, 2, 4], [0.25, 0.95, 0.25])
    assert np.mean([spearmanr(one, drawn).statistic for one in level]) > 0.6


def test_it_takes_weights_of_guidance_from_1_to_3(student: TrainedModel) -> None:
    weak, strong = (student.sample(CURVES, seconds=4, n=1, guidance=weight) for weight in (1, 3))
    assert not torch.allclose(weak, strong, atol=1e-3)
    with pytest.raises(UserError, match="from 1 to 3"):
        student.sample(CURVES, seconds=4, n=1, guidance=4)

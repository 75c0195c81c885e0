"""Adherence to measured controls: real clips follow their own, a change of level and timbre shows as an error."""

import numpy as np
import pytest
import torch

from data_specs.analysis.measured import measured_controls
from data_specs.rates import frame_rate
from training.evaluation.adherence import ADHERENCE, ClipAnalysis
from training.evaluation.features import extract_features
from training.evaluation.targets import control_targets

HOP = 320


def clip(tilt: float) -> np.ndarray:
    time = np.arange(4 * 24_000) / 24_000
    swell = 0.02 + 0.2 * (1 - np.cos(2 * np.pi * time / 4)) / 2
    bright = tilt + 0.5 * np.sin(2 * np.pi * time / 3)
    return np.asarray(swell * sum(np.sin(2 * np.pi * 220 * k * time) * k**-bright for k in range(1, 12)), np.float32)


def measures(audio: np.ndarray, asked: np.ndarray) -> dict[str, float]:
    names = ("loudness", "centroid", "pitch")
    controls = measured_controls(asked, names, len(asked) // HOP, HOP)
    features = extract_features(torch.from_numpy(audio)[None, None])
    analysis = ClipAnalysis(features, np.zeros((1, 1, 1), np.float32), len(audio))
    targets = control_targets(controls, frame_rate(HOP), features.frames)
    found = {}
    for name in ("loudness", "centroid"):
        entry = ADHERENCE[name]
        for measure, (top, bottom) in zip(entry.measures, entry.ratios(analysis, 0, targets, None), strict=True):
            found[measure] = top / bottom
    return found


def test_a_clip_follows_its_own_descriptors():
    found = measures(clip(1.5), clip(1.5))
    assert found["loudness_rank"] > 0.99
    assert found["centroid_rank"] > 0.99
    assert found["loudness_error"] < 0.5
    assert found["centroid_error"] < 0.3


def test_another_level_and_timbre_are_errors():
    found = measures(0.25 * clip(1.0), clip(1.5))
    assert found["loudness_error"] == pytest.approx(12, abs=4)
    assert found["centroid_error"] > 2
    assert found["loudness_rank"] > 0.9


def test_an_absent_control_is_undefined():
    analysis = ClipAnalysis(extract_features(torch.from_numpy(clip(1.5))[None, None]), np.zeros((1, 1, 1)), 96_000)
    targets = control_targets({"velocity": np.ones(300)}, frame_rate(HOP), 400)
    for name in ("loudness", "centroid"):
        assert ADHERENCE[name].ratios(analysis, 0, targets, None) == ((0.0, 0.0), (0.0, 0.0))

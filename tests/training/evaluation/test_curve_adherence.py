"""Adherence of pitch, dynamics and brightness on tones whose level, pitch and filter follow drawn curves exactly."""

from fractions import Fraction

import numpy as np
import pytest
import torch

from data_specs.analysis.pitch import HOP
from training.evaluation.adherence import Calibration, average, measure
from training.evaluation.adherence import ClipAnalysis as Analysis
from training.evaluation.features import extract_features
from training.evaluation.targets import PITCH_ORIGIN, PITCH_SPAN, control_targets

RATE, SECONDS = 75, 8
NEW = ("pitch_accuracy", "pitch_error", "dynamics_rank", "dynamics_error", "brightness_rank", "brightness_error")


def clip(seed):
    """Four notes of 1.8 s with vibrato, a moving level (40 log10 of velocity, in dB) and a moving spectral slope."""
    rng = np.random.default_rng(seed)
    time = np.arange(SECONDS * RATE) / RATE
    sounding = time % 2 < 1.8
    midi = np.repeat(rng.integers(50, 70, 4), 2 * RATE) + 0.3 * np.sin(2 * np.pi * 5 * time)
    velocity = 0.6 + 0.35 * np.sin(2 * np.pi * (0.4 + 0.3 * rng.random()) * time + 6 * rng.random())
    brightness = 0.5 + 0.45 * np.sin(2 * np.pi * (0.2 + 0.2 * rng.random()) * time + 6 * rng.random())
    controls = {
        "velocity": np.where(sounding, velocity, 0),
        "pitch": np.where(sounding, (midi - PITCH_ORIGIN) / PITCH_SPAN, 0),
        "brightness": brightness,
        "instruments": np.ones((1, len(time))),
    }
    at = np.arange(SECONDS * 24_000) / 24_000 * RATE
    fine = {
        name: np.interp(at, np.arange(len(time)), x) for name, x in (("m", midi), ("v", velocity), ("b", brightness))
    }
    phase = 2 * np.pi * np.cumsum(440 * 2 ** ((fine["m"] - 69) / 12)) / 24_000
    slope = 0.35 + 0.5 * fine["b"]
    tone = sum(slope**k * np.sin(k * phase) for k in range(1, 9))
    level = np.sqrt(sum(slope ** (2 * k) for k in range(1, 9)))
    audio = 0.2 * fine["v"] ** 2 * tone / level * (at / RATE % 2 < 1.8)
    return audio, {name: values.astype(np.float32) for name, values in controls.items()}


def analysis(audio):
    features = extract_features(torch.from_numpy(np.stack(audio))[:, None].float())
    return Analysis(features, np.ones((len(audio), 8, 1), np.float32), SECONDS * 24_000)


def targets(controls):
    return [control_targets(one, Fraction(RATE), SECONDS * 24_000 // HOP) for one in controls]


@pytest.fixture(scope="module")
def made():
    real = [clip(seed) for seed in range(8)]
    fitted = Calibration.fit(analysis([a for a, _ in real]), targets([c for _, c in real]), 1)
    return [clip(100 + seed) for seed in range(4)], fitted


def scores(audio, controls, calibration):
    return average(measure(analysis(audio), targets(controls), calibration))


def test_exact_curves_are_followed_and_those_of_another_clip_are_not(made):
    clips, calibration = made
    audio, controls = zip(*clips, strict=True)
    right, other = (scores(audio, wanted, calibration) for wanted in (controls, controls[1:] + controls[:1]))
    assert right["pitch_accuracy"] > 0.97
    assert right["pitch_error"] < 10
    assert right["dynamics_rank"] > 0.97
    assert right["dynamics_error"] < 1
    assert right["brightness_rank"] > 0.9
    assert right["brightness_error"] < 0.1
    for name in NEW:
        far = other[name] - right[name] if name.endswith("error") else right[name] - other[name]
        assert far > (0.1 if "brightness" in name else 0.3), (name, right[name], other[name])


def test_an_octave_counts_as_wrong(made):
    clips, calibration = made
    audio, controls = clips[0]
    octave = {**controls, "pitch": np.where(controls["pitch"] > 0, controls["pitch"] + 12 / PITCH_SPAN, 0)}
    found = scores([audio], [octave], calibration)
    assert found["pitch_accuracy"] < 0.02
    assert found["pitch_error"] == pytest.approx(1200, abs=15)


def test_controls_that_are_missing_leave_their_measures_out(made):
    clips, calibration = made
    audio, controls = clips[0]
    found = scores([audio], [{"velocity": controls["velocity"], "instruments": controls["instruments"]}], calibration)
    assert {name for name in NEW if found[name] is None} >= {name for name in NEW if not name.startswith("dynamics")}

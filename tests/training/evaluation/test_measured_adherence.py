"""Adherence to measured controls: real clips follow their own, a change of level and timbre shows as an error."""

import numpy as np
import pytest
import torch

from data_specs.analysis.measured import measured_controls
from data_specs.rates import frame_rate
from training.evaluation.adherence import ADHERENCE, MEASURED, ClipAnalysis
from training.evaluation.features import extract_features
from training.evaluation.judges.librosa_descriptors import librosa_features
from training.evaluation.judges.measures import LIBROSA, Judges
from training.evaluation.tables import disagreement
from training.evaluation.targets import control_targets
from training.evaluation.velocity import NoteLevels, VelocityScale, note_levels

HOP = 320


def clip(tilt: float) -> np.ndarray:
    time = np.arange(4 * 24_000) / 24_000
    swell = 0.02 + 0.2 * (1 - np.cos(2 * np.pi * time / 4)) / 2
    bright = tilt + 0.5 * np.sin(2 * np.pi * time / 3)
    return np.asarray(swell * sum(np.sin(2 * np.pi * 220 * k * time) * k**-bright for k in range(1, 12)), np.float32)


def measures(audio: np.ndarray, asked: np.ndarray) -> dict[str, float]:
    """Return each measure by the project's analyser and by librosa."""
    controls = measured_controls(asked, (*MEASURED, "pitch"), len(asked) // HOP, HOP)
    batch = torch.from_numpy(audio)[None, None]
    features = extract_features(batch, noisiness=True)
    analysis = ClipAnalysis(features, np.zeros((1, 1, 1), np.float32), len(audio))
    targets = control_targets(controls, frame_rate(HOP), features.frames)
    found = {}
    for name in MEASURED:
        entry = ADHERENCE[name]
        found |= dict(zip(entry.measures, entry.ratios(analysis, 0, targets, None), strict=True))
    judges = Judges.load((), "cpu", ("pitch", *MEASURED))
    found |= {name: ratio for name, ratio in judges.measure(batch, analysis, [targets])[0].items() if name in LIBROSA}
    return {name: top / bottom for name, (top, bottom) in found.items()}


@pytest.mark.parametrize("prefix", ["", "librosa_"])
def test_a_clip_follows_its_own_descriptors(prefix):
    found = measures(clip(1.5), clip(1.5))
    assert found[prefix + "loudness_rank"] > 0.99
    assert found[prefix + "centroid_rank"] > 0.99
    assert found[prefix + "loudness_error"] < 0.5
    assert found[prefix + "centroid_error"] < 0.3


def test_another_level_and_timbre_are_errors():
    found = measures(0.25 * clip(1.0), clip(1.5))
    for prefix in ("", "librosa_"):
        assert found[prefix + "loudness_error"] == pytest.approx(12, abs=4)
        assert found[prefix + "centroid_error"] > 2
        assert found[prefix + "loudness_rank"] > 0.9


def noisy(swell: np.ndarray) -> np.ndarray:
    """A tone with noise whose level follows `swell`, 0..1."""
    noise = np.random.default_rng(0).standard_normal(len(swell))
    time = np.arange(len(swell)) / 24_000
    return np.asarray(
        0.1 * sum(np.sin(2 * np.pi * 220 * k * time) for k in range(1, 9)) + 0.2 * swell * noise, np.float32
    )


def test_noisiness_is_followed_or_not():
    rising = np.linspace(0, 1, 96_000) ** 2
    own, other = measures(noisy(rising), noisy(rising)), measures(noisy(rising[::-1]), noisy(rising))
    for prefix in ("", "librosa_"):
        assert own[prefix + "noisiness_rank"] > 0.9
        assert other[prefix + "noisiness_rank"] < -0.9
    assert own["noisiness_error"] < 0.02
    assert other["noisiness_error"] > 0.2


def test_librosas_level_of_a_sine_is_its_root_mean_square():
    """A full-scale sine of 1 kHz has -3 dB; silence has the floor and no centroid."""
    audio = torch.zeros(1, 1, 96_000)
    audio[..., :48_000] = torch.sin(2 * torch.pi * 1000 * torch.arange(48_000, dtype=torch.float64) / 24_000)
    found = librosa_features(audio, extract_features(audio))
    assert found.loudness[0, 20:-210] == pytest.approx(-3.01, abs=0.05)
    assert (found.loudness[0, 220:] == -80).all()
    assert np.isnan(found.centroid[0, 220:]).all()
    assert found.centroid[0, 20:-210] == pytest.approx(12 * np.log2(1000 / 20), abs=0.1)


@pytest.mark.filterwarnings("error")
def test_without_velocity_its_scale_is_undefined_and_nothing_warns():
    """As in a dataset of recordings."""
    features = extract_features(torch.from_numpy(clip(1.5))[None, None])
    targets = control_targets({"loudness": np.full(300, 0.5)}, frame_rate(HOP), features.frames)
    scale = VelocityScale.fit(features, [targets], instruments=2)
    assert np.isnan(scale.velocity(note_levels(features, 0, targets))).all()
    one = NoteLevels(*(np.array([value]) for value in (-20.0, 3, 0.5, 1, 1.0)))
    assert np.isnan(scale.velocity(one)).all()


def test_without_measured_controls_librosa_does_not_judge():
    assert Judges.load((), "cpu", ("velocity", "pitch")) is None
    assert Judges.load((), "cpu", ("velocity", "centroid")).measured == ("centroid",)


def test_disagreement_is_a_loss_for_errors_and_for_ranks():
    """librosa sees 1 dB more error and 0.1 less rank than the project does."""
    row = {
        "judged_real": {"librosa_loudness_error": 1.0, "librosa_loudness_rank": 0.9},
        "judged": {"librosa_loudness_error": 4.0, "librosa_loudness_rank": 0.5},
        "anchors": {"ceiling": {"loudness_error": 0.5, "loudness_rank": 1.0}},
        "adherence": {"loudness_error": 2.5, "loudness_rank": 0.7},
    }
    assert disagreement(row) == pytest.approx({"librosa_loudness_error": 1.0, "librosa_loudness_rank": 0.1})


def test_an_absent_control_is_undefined():
    analysis = ClipAnalysis(extract_features(torch.from_numpy(clip(1.5))[None, None]), np.zeros((1, 1, 1)), 96_000)
    targets = control_targets({"velocity": np.ones(300)}, frame_rate(HOP), 400)
    for name in MEASURED:
        assert ADHERENCE[name].ratios(analysis, 0, targets, None) == ((0.0, 0.0), (0.0, 0.0))

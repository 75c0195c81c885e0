from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment
from scipy.stats import spearmanr

from data_specs.analysis.pitch import HOP
from data_specs.errors import UserError
from tests.published_controls import Controls
from training.evaluation import adherence
from training.evaluation.adherence import (
    Calibration,
    analyze,
    anchors,
    average,
    lower_is_better,
    measure,
    measure_names,
)
from training.evaluation.targets import control_targets
from training.evaluation.velocity import NoteLevels, VelocityScale, note_levels

CODES = Fraction(75)
PUBLISHED = ("chroma", "pitch", "velocity_rank", "velocity_error", "onsets", "silence", "instrument")


@pytest.fixture(scope="module")
def scale(other_clips, net):
    found = analyze(other_clips.audio, net)
    return Calibration.fit(found, read_controls(other_clips.controls(), CODES, 192_000), 3)


@pytest.fixture(scope="module")
def analysis(clips, net):
    return analyze(clips.audio, net)


def read_controls(controls, frame_rate, samples):
    return [control_targets(vars(one), frame_rate, samples // HOP) for one in controls]


def cut(controls, frames):
    return [Controls(c.velocity[:frames], c.chroma[:frames], c.instruments[:, :frames]) for c in controls]


@pytest.mark.parametrize(("hop", "seconds"), [(320, 8), (100, 8), (320, 4), (320, 2)])
def test_ceiling_and_floor_are_far_apart_for_every_measure(clips, net, scale, hop, seconds):
    samples = seconds * 24_000
    real = analyze(clips.audio[..., :samples], net)
    wanted = read_controls(cut(clips.controls(hop), samples // hop), Fraction(24_000, hop), samples)
    found = anchors(real, wanted, scale, seed=0)
    for name in PUBLISHED:
        ceiling, floor = found["ceiling"][name], found["floor"][name]
        if name in lower_is_better():
            assert ceiling < 0.08, (name, ceiling)
            assert floor > 2.5 * ceiling, (name, ceiling, floor)
        else:
            assert ceiling > 0.85, (name, ceiling)
            assert ceiling - floor > 0.4, (name, ceiling, floor)


def test_silence_and_noise_follow_nothing(clips, net, scale):
    wanted = read_controls(clips.controls()[:6], CODES, 192_000)
    silence = average(measure(analyze(torch.zeros(6, 1, 192_000), net), wanted, scale))
    assert silence["chroma"] == 0
    assert silence["pitch"] is None  # nothing is voiced
    assert silence["onsets"] == 0
    assert silence["velocity_rank"] == 0
    assert silence["velocity_error"] > 0.2
    assert silence["silence"] < 0.7
    noise = torch.from_numpy(np.random.default_rng(0).standard_normal((6, 1, 192_000))).float() * 0.05
    found = average(measure(analyze(noise, net), wanted, scale))
    assert found["chroma"] < 0.1
    assert abs(found["velocity_rank"]) < 0.4
    assert found["silence"] < 0.1


def test_each_measure_hears_its_own_fault(clips, net, scale, analysis):
    """A fault made on purpose lowers its measure and leaves the others."""
    wanted = read_controls(clips.controls(), CODES, 192_000)
    right = average(measure(analysis, wanted, scale))
    quieter = average(measure(analyze(clips.audio * 0.25, net), wanted, scale))
    assert quieter["velocity_error"] > right["velocity_error"] + 0.1
    assert quieter["velocity_rank"] == pytest.approx(right["velocity_rank"], abs=0.05)
    assert quieter["chroma"] == pytest.approx(right["chroma"], abs=0.03)
    late = average(measure(analyze(torch.nn.functional.pad(clips.audio, (2400, 0))[..., :192_000], net), wanted, scale))
    assert late["onsets"] < right["onsets"] - 0.3  # by 100 ms
    assert late["instrument"] > 0.9
    other = [
        Controls(c.velocity, np.where(c.velocity > 0, (c.chroma * 11 + 2) % 12 / 11, 0), c.instruments)
        for c in clips.controls()
    ]
    wrong = average(measure(analysis, read_controls(other, CODES, 192_000), scale))
    assert wrong["chroma"] < 0.1
    assert wrong["pitch"] < 0.1
    assert wrong["silence"] == pytest.approx(right["silence"], abs=0.01)


def test_free_features_leave_their_measures_out(clips, analysis, scale):
    free = [Controls(np.full_like(c.velocity, -1), c.chroma, c.instruments) for c in clips.controls()]
    found = average(measure(analysis, read_controls(free, CODES, 192_000), scale))
    assert {name for name in PUBLISHED if found[name] is None} == {
        "velocity_rank",
        "velocity_error",
        "onsets",
        "silence",
    }
    assert found["chroma"] > 0.85
    free = [Controls(c.velocity, c.chroma, np.full_like(c.instruments, -1)) for c in clips.controls()]
    found = average(measure(analysis, read_controls(free, CODES, 192_000), scale))
    assert {name for name in PUBLISHED if found[name] is None} == {"instrument"}
    assert found["velocity_rank"] > 0.8  # read on the mean of all scales


def test_an_instrument_that_changes_is_followed(clips, net, scale):
    """Piano, then violin: right patch by patch, wrong where the curve says otherwise."""
    audio = torch.cat([clips.audio[0:1, :, :96_000], clips.audio[1:2, :, :96_000]], dim=-1)
    first, second = clips.controls()[0], clips.controls()[1]
    joined = Controls(
        *(
            np.concatenate([getattr(one, n)[..., :300] for one in (first, second)], -1)
            for n in ("velocity", "chroma", "instruments")
        )
    )
    analysis = analyze(audio, net)
    assert average(measure(analysis, read_controls([joined], CODES, 192_000), scale))["instrument"] >= 7 / 8
    constant = Controls(joined.velocity, joined.chroma, np.repeat(first.instruments[:, :1], 600, 1))
    assert average(measure(analysis, read_controls([constant], CODES, 192_000), scale))["instrument"] <= 5 / 8


def test_silence_is_counted_within_three_frames():
    from types import SimpleNamespace

    def ratio(asked, found):
        known = np.ones(40, bool)
        as_frames = [np.isin(np.arange(40), frames) for frames in (asked, found)]
        return adherence._silence(as_frames[1], SimpleNamespace(rest=as_frames[0], rests_known=known))

    assert ratio([10, 11], [14, 15]) == (2.0, 4.0)  # 11 and 14 find each other, 10 and 15 nobody
    assert ratio([10], [14]) == (0.0, 2.0)
    assert ratio([0, 1, 2], [0, 1, 2]) == (6.0, 6.0)
    assert ratio([], [5]) == (0.0, 1.0)
    assert ratio([], []) == (0.0, 0.0)


def test_averages_weigh_clips_by_what_was_measured():
    blank = dict.fromkeys(measure_names(), (0.0, 0.0))
    found = average([{**blank, "chroma": (9.0, 10.0)}, {**blank, "chroma": (0.0, 90.0)}])
    assert found["chroma"] == pytest.approx(0.09)
    assert found["onsets"] is None
    assert average([]) == dict.fromkeys(measure_names())


@settings(deadline=None, max_examples=60)
@given(
    one=st.lists(st.integers(0, 60), max_size=8, unique=True),
    other=st.lists(st.integers(0, 60), max_size=8, unique=True),
)
def test_matching_is_as_large_as_any(one, other):
    """Against the optimal assignment, on a grid of 10 ms."""
    a, b = np.sort(one) / 100, np.sort(other) / 100
    near = np.abs(a[:, None] - b[None]) <= 0.05 + 1e-9
    rows, columns = linear_sum_assignment(~near) if near.size else ([], [])
    assert adherence.matches(a, b, 0.05) == near[rows, columns].sum()


def test_rank_correlation_is_spearmans_with_ties():
    rng = np.random.default_rng(0)
    one, other = rng.integers(0, 5, 30).astype(float), rng.standard_normal(30)
    assert adherence._rank(one, other) == (pytest.approx(spearmanr(one, other).statistic), 1.0)


def test_scale_reads_velocities_of_clips_it_has_not_seen(clips, analysis, scale):
    wanted = read_controls(clips.controls(), CODES, 192_000)
    for instrument in range(3):
        found = [
            note_levels(analysis.features, i, w) for i, w in enumerate(wanted) if clips.instrument[i] == instrument
        ]
        read = np.concatenate([scale.velocity.velocity(f) for f in found])
        asked = np.concatenate([f.velocity for f in found])
        assert np.abs(read - asked).mean() < 0.06
        assert scale.velocity.slope[instrument] > 0


def test_an_instrument_never_heard_has_no_scale(other_clips, net):
    piano = [i for i in range(12) if other_clips.instrument[i] == 0]
    features = analyze(other_clips.audio[piano], net).features
    wanted = read_controls([other_clips.controls()[i] for i in piano], CODES, 192_000)
    scale = VelocityScale.fit(features, wanted, 3)
    levels, keys, ones = np.array([-20.0, -20.0]), np.array([3, 3]), np.ones(2)
    read = scale.velocity(NoteLevels(levels, keys, ones, np.array([0, 1]), ones))
    assert np.isfinite(read[0])
    assert np.isnan(read[1])


def test_audio_that_is_not_finite_is_refused(net):
    with pytest.raises(UserError, match="must be finite"):
        analyze(torch.full((1, 1, 48_000), float("nan")), net)


def test_values_of_each_clip_stand_beside_its_id(clips, analysis, scale):
    ratios = measure(analysis, read_controls(clips.controls(), CODES, 192_000), scale)
    values = adherence.to_json(ratios[:2], ["a", "b"])
    assert [one["id"] for one in values] == ["a", "b"]
    assert values[0]["chroma"] == ratios[0]["chroma"][0] / ratios[0]["chroma"][1]

"""Random curves over a clip: within bounds, functions of their key, varied, described by plain numbers."""

import json

import numpy as np
import pytest

from data_specs.spec import CURVE_FAMILIES
from pipeline.melody.curve_families import FAMILIES, Draws, draw_curve, evaluate_curve

SECONDS = np.arange(3000) * 64 / 24_000


def drawn(family: str, seed: int) -> dict[str, object]:
    return draw_curve([family], Draws(f"{seed}/x"), 8.0)


def test_specs_know_all_families() -> None:
    assert tuple(FAMILIES) == CURVE_FAMILIES


@pytest.mark.parametrize("family", FAMILIES)
def test_curves_stay_in_range_and_move(family: str) -> None:
    spans = []
    for seed in range(200):
        values = evaluate_curve(drawn(family, seed), SECONDS)
        assert values.shape == (3000,)
        assert values.min() >= 0
        assert values.max() <= 1
        spans.append(np.ptp(values))
    assert np.mean(np.array(spans) > 0.25) > 0.85


@pytest.mark.parametrize("family", FAMILIES)
def test_curves_are_functions_of_their_key_and_survive_json(family: str) -> None:
    parameters = drawn(family, 1)
    assert parameters == drawn(family, 1) != drawn(family, 2)
    assert np.array_equal(
        evaluate_curve(json.loads(json.dumps(parameters)), SECONDS), evaluate_curve(parameters, SECONDS)
    )


def test_sine_ramp_steps_and_arch_by_their_definition() -> None:
    time = np.array([0.0, 1.0, 2.0, 3.0, 8.0])
    ramp = {"family": "ramp", "from": 0.2, "to": 0.6, "start": 1.0, "seconds": 2.0}
    assert evaluate_curve(ramp, time) == pytest.approx([0.2, 0.2, 0.4, 0.6, 0.6])
    steps = {"family": "steps", "times": [0.0, 2.0, 2.5], "levels": [0.1, 0.9, 0.5]}
    assert evaluate_curve(steps, time) == pytest.approx([0.1, 0.1, 0.9, 0.5, 0.5])
    arch = {"family": "arch", "base": 0.1, "peak": 0.9, "at": 2.0, "seconds": 4.0}
    assert evaluate_curve(arch, time) == pytest.approx([0.1, 0.5, 0.9, 0.5, 0.1])
    sine = {"family": "sine", "hz": 0.25, "phase": 0.0}
    assert evaluate_curve(sine, time) == pytest.approx([0.5, 0.0, 0.5, 1.0, 0.5])
    walk = {"family": "walk", "interval": 2.0, "levels": [0.0, 1.0, 0.5, 0.5, 0.5]}
    assert evaluate_curve(walk, time) == pytest.approx([0.0, 0.5, 1.0, 0.75, 0.5])


def test_families_are_drawn_evenly() -> None:
    found = [draw_curve(list(FAMILIES), Draws(f"{seed}"), 8.0)["family"] for seed in range(1000)]
    assert all(150 < found.count(family) < 250 for family in FAMILIES)


def test_draws_are_uniform_and_independent_of_other_keys() -> None:
    draws = Draws("key")
    values = np.array([draws.uniform() for _ in range(4000)])
    assert abs(values.mean() - 0.5) < 0.02
    assert abs(np.corrcoef(values[1:], values[:-1])[0, 1]) < 0.05
    assert {Draws(f"{key}").integer(2, 4) for key in range(50)} == {2, 3, 4}

"""Comparison of ways of control: equal parameters, control effects, stages and the table."""

from types import SimpleNamespace

import pytest
import torch

from bench import control_ways
from bench.control_ways import LAYOUT, WAYS, ControlWays, control_effects, entry, network_table, tables, time_passes
from bench.paradigms import Sizes
from training.diffusion import build_paradigm
from training.networks import build_network, check_width, parameter_count
from training.networks.control import CONTROL_BRANCHES

SHAPE = (128, 600)


def test_ways_have_equal_parameters_and_cover_the_branches() -> None:
    counts, used = [], set()
    for way in WAYS:
        table = network_table(way)
        check_width(table, SHAPE)
        counts.append(parameter_count(build_network(table, SHAPE, LAYOUT)))
        used |= set(table["controls"])
    assert max(counts) <= 1.05 * min(counts)
    assert used == CONTROL_BRANCHES.keys() - {"global"}


def test_effects_are_those_of_the_controls_that_the_denoiser_uses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Data is the pitch itself and the denoiser returns it: other controls have no effect."""
    pitch = torch.rand(control_ways.CROPS, 1, 8)
    controls = LAYOUT.stack({"pitch": pitch[:, 0], "velocity": torch.rand(len(pitch), 8)})

    def denoise(network, x, sigma, given):
        return given[:, LAYOUT.slice("pitch")] + 0.1

    paradigm = build_paradigm("edm", {}, LAYOUT)
    monkeypatch.setattr(paradigm, "denoise", denoise)
    monkeypatch.setattr(control_ways, "load_crops", lambda *_: (pitch, controls))
    monkeypatch.setattr(control_ways, "Dataset", lambda *_, **__: None)
    model = SimpleNamespace(paradigm=paradigm, network=None, data=SimpleNamespace(layout=LAYOUT))
    found = control_effects(model, None)  # type: ignore[arg-type]
    weights = [(sigma**2 + 0.25) / (sigma * 0.5) ** 2 for sigma in control_ways.SIGMAS]
    assert found["error"] == pytest.approx(0.01 * sum(weights) / len(weights), rel=1e-4)
    swapped = float((pitch.roll(1, 0) + 0.1 - pitch).square().mean() / 0.01 - 1)
    expected = {"velocity": 0, "chroma": 0, "pitch": swapped, "brightness": 0, "instruments": 0, "all": swapped}
    assert found["effects"] == pytest.approx(expected, abs=1e-4)


def test_passes_are_timed_beside_the_first_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control_ways, "ROUNDS", 1)
    monkeypatch.setattr(control_ways, "FRAMES", 16)
    rows = time_passes(["film_local", "concat"]).splitlines()
    assert "to film_local" in rows[0]
    assert rows[2].startswith("| film_local | 1.40 M |")
    assert rows[2].endswith("| 1.00 |")
    assert len(rows) == 4


def test_finished_measures_are_kept_until_more_is_trained(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    monkeypatch.setattr(control_ways, "load_model", lambda run: SimpleNamespace(step=7))
    monkeypatch.setattr(control_ways, "control_effects", lambda *_: calls.append(1) or {"error": 0.5, "effects": {}})
    one = entry("concat", 0)
    for seconds in (10.0, 10.0, 20.0):
        comparison = ControlWays(tmp_path, Sizes(seconds, "", 0, 0, 4), tmp_path)
        comparison.record(f"{one.name}: core-seconds", seconds)
        comparison.measure(one)
    assert len(calls) == 2


def test_the_tables_have_effects_and_scores() -> None:
    one, other = entry("concat", 0), entry("condconv", 1)
    effects = {"core_seconds": 60, "steps": 600, "error": 0.25, "effects": {"all": 0.5, "pitch": -0.012}}
    row = {"run": one.name, "parameters": 1.4e6, "reported": 8, "adherence": {"onsets": 0.5, "loudness_rank": None}}
    row["fad"] = {"pvt-net": {"train": {"value": 123.4}}}
    text = tables({f"{one.name}: effects": effects, f"{other.name}: effects": effects, f"{one.name}: row": row},
                  [one, other])  # fmt: skip
    assert "| 0.100 |" in text
    assert "+50.0 % | -1.2 %" in text
    assert "condconv, seed 1" in text
    assert "123.4 | 0.500" in text
    assert "loudness_rank" not in text

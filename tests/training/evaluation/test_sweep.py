"""Sweeps over sampling options: every value once, on the same clips from the same noise, and the table of it."""

import json
from types import SimpleNamespace

import pytest
import torch

from data_specs.errors import UserError
from training.conditioning import ControlLayout
from training.diffusion import build_paradigm
from training.evaluation import sweep as module
from training.evaluation.sweep import DEFAULT_SWEEPS, Sweep, markdown, plan_sweep, sweep, write_sweep
from training.sampling.sampling import SamplingConfig


class Paradigm:
    """Counts two evaluations a step, and takes no step number of zero."""

    def evaluations(self, options):
        return 2 * options["steps"]


@pytest.fixture
def bench(monkeypatch):
    """A run and a judge that remember what was asked of them; FAD falls with steps, chroma rises with churn."""
    asked = []

    def resolve(settings, paradigm):
        if settings.steps == 0:
            raise UserError("steps must be above 0")
        return {"steps": settings.steps or 18, **settings.options}

    def generate(run, judge, settings, clips):
        asked.append((settings, clips))
        yield torch.zeros(clips, 1, 10), settings

    monkeypatch.setattr(SamplingConfig, "resolve", resolve)
    monkeypatch.setattr(module, "generate", generate)
    monkeypatch.setattr(
        module,
        "scores",
        lambda heard, judge: {
            "fad": {
                "pvt-net": {"train": {"value": 10 / (heard.steps or 18)}},
                "vggish": {"train": {"missing": "no weights"}},
            },
            "adherence": {"chroma": 0.5 + heard.options.get("s_churn", 0) / 100, "pitch": None},
            "copies": None,
        },
    )
    judge = SimpleNamespace(measure=lambda batches: next(iter(batches))[1])
    return SimpleNamespace(paradigm=Paradigm()), judge, asked


def test_each_value_is_judged_once_with_the_rest_unchanged(bench):
    run, judge, asked = bench
    base = SamplingConfig(seed=4, guidance=2.0, options={"s_noise": 1.003})
    saved = []
    sweeps = [Sweep("s_churn", (0, 40)), Sweep("steps", (9, 36))]
    planned = plan_sweep(run.paradigm, sweeps, base)
    rows = sweep(run, judge, planned, 5, save=lambda so_far: saved.append(len(so_far)))
    assert saved == [1, 2, 3, 4]  # a sweep that is stopped keeps its rows
    assert [(row["option"], row["value"], row["evaluations"]) for row in rows] == [
        ("s_churn", 0, 36),
        ("s_churn", 40, 36),
        ("steps", 9, 18),
        ("steps", 36, 72),
    ]
    assert [clips for _, clips in asked] == [5] * 4
    assert {(settings.seed, settings.guidance, settings.options["s_noise"]) for settings, _ in asked} == {
        (4, 2.0, 1.003)
    }
    assert [settings.options.get("s_churn") for settings, _ in asked] == [0, 40, None, None]
    assert [settings.steps for settings, _ in asked] == [None, None, 9, 36]


def test_a_value_that_does_not_fit_is_an_error_of_the_plan(bench):
    run, _, _ = bench
    with pytest.raises(UserError, match="steps must be above 0"):
        plan_sweep(run.paradigm, [Sweep("s_churn", (0, 40)), Sweep("steps", (9, 0))], SamplingConfig())
    with pytest.raises(UserError, match=r"steps must be an integer, got 1\.5"):
        plan_sweep(run.paradigm, [Sweep("steps", (1.5, 2))], SamplingConfig())


@pytest.mark.parametrize("name", ["edm", "ddpm", "discdpm", "consistency"])
def test_every_paradigm_has_the_options_of_the_default_sweep(name):
    config = {"guidance_spread": 1} if name == "consistency" else {}
    paradigm = build_paradigm(name, config, ControlLayout((("velocity", 1),)), classes=16)
    sweeps = [Sweep.parse(text) for text in DEFAULT_SWEEPS]
    assert [row["value"] for row, _ in plan_sweep(paradigm, sweeps, SamplingConfig())] == [1, 1.5, 2, 3]
    if name == "consistency":
        with pytest.raises(UserError, match="one number from 1 to 3"):
            plan_sweep(paradigm, [Sweep("guidance", (2, 5))], SamplingConfig())


def test_tables_and_figures_hold_the_rows(bench, tmp_path):
    run, judge, _ = bench
    sweeps = [Sweep("s_churn", (0, 40)), Sweep("steps", (36, 9))]
    rows = sweep(run, judge, plan_sweep(run.paradigm, sweeps, SamplingConfig()), 5)
    text = write_sweep(rows, tmp_path, 5)
    assert text == markdown(rows, 5)
    assert "| s_churn | evaluations | FAD pvt-net | chroma |" in text
    assert "| 40 | 36 | 0.556 | 0.900 |" in text
    assert "| 9 | 18 | 1.111 | 0.500 |" in text
    assert json.loads((tmp_path / "sweep.json").read_text())[1]["adherence"]["chroma"] == 0.9
    assert (tmp_path / "sweep.md").read_text() == text
    assert {path.name for path in tmp_path.glob("*.png")} == {"sweep-s_churn.png", "sweep-steps.png"}


def test_sweeps_are_parsed():
    churn = Sweep.parse("S_churn=0,10,40")
    assert (churn.option, churn.values) == ("s_churn", (0, 10, 40))
    assert churn.settings(10, SamplingConfig(steps=3)).options == {"s_churn": 10}
    assert Sweep.parse("steps=9,18").settings(9, SamplingConfig()).steps == 9
    for text in ("steps", "steps=9", "steps=9,9", "=1,2", "steps=a,b"):
        with pytest.raises(UserError, match="must be an option with two or more values"):
            Sweep.parse(text)


@pytest.mark.parametrize("text", ["steps=9,inf", "steps=nan,9", "guidance=1,-inf", "s_churn=0,1e999"])
def test_values_that_are_not_finite_are_refused(text):
    with pytest.raises(UserError, match=f"the values of VARY= must be finite, got '{text}'"):
        Sweep.parse(text)


def test_guidance_is_swept_like_an_option():
    base, one = SamplingConfig(), Sweep.parse("guidance=1,1.5,3")
    assert [one.settings(value, base).guidance for value in one.values] == [1, 1.5, 3]
    with pytest.raises(UserError, match="guidance must be a weight >= 0"):
        one.settings(-1, base)

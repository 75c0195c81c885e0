"""The benchmark's own arithmetic: medians, ratios, budgets, and parts that cannot be measured."""

import argparse
import json
import time

import pytest

from bench.__main__ import measure, write
from bench.page import headroom, markdown, number, plot
from bench.table import Row, Timings, at_least, at_most, interleaved

ABOUT = {
    "command": "make bench",
    "date": "2026-01-01",
    "machine": "a machine, 2 cores",
    "cores": 2,
    "load": "0.1 before, 0.2 after",
    "versions": "Python 3",
    "seconds": 1.0,
}


def test_alternatives_are_interleaved_after_warm_up():
    calls = []
    timings = interleaved({"a": lambda: calls.append("a"), "b": lambda: calls.append("b") or 4}, 3, warm_ups=1)
    assert calls == ["a", "b"] * 4
    assert len(timings.wall["a"]) == len(timings.cpu["b"]) == 3


def test_seconds_are_per_unit_of_work():
    timings = interleaved({"slow": lambda: time.sleep(0.02) or 10}, 1, warm_ups=0)
    assert 0.002 <= timings.seconds("slow") < 0.02
    assert timings.rate("slow") == pytest.approx(1 / timings.seconds("slow"))
    assert timings.cpu["slow"][0] < timings.seconds("slow")  # asleep


def made(ours: list[float], theirs: list[float]) -> Timings:
    timings = Timings()
    for mine, other in zip(ours, theirs, strict=True):
        timings.add("ours", mine, mine)
        timings.add("theirs", other, 2 * other)
    return timings


def test_ratios_are_medians_of_neighbours():
    """A machine that slows down tenfold in the last round changes both sides of it, and no ratio."""
    timings = made([1.0, 2.0, 10.0], [3.0, 6.0, 30.0])
    row = timings.row("figure", "ours", "theirs", at_least(3))
    assert (row.ratio, row.cpu_ratio) == (3.0, 6.0)
    assert (row.ours, row.baseline_value) == (2000.0, 6000.0)
    assert row.met
    limit = timings.row("figure", "ours", "theirs", at_most(0.3), limit=True)
    assert limit.ratio == pytest.approx(1 / 3)
    assert limit.met is False
    rate = timings.row("figure", "ours", "theirs", unit="clips/s")
    assert (rate.ours, rate.baseline_value, rate.ratio) == (0.5, pytest.approx(1 / 6), 3.0)
    assert [one.of for one in (row, limit, rate)] == ["baseline / ours", "ours / baseline", "ours / baseline"]


def test_rows_without_processor_time_have_no_ratio_of_it():
    timings = interleaved({"ours": lambda: None, "theirs": lambda: None}, 2, cpu_clock=None)
    assert timings.row("figure", "ours", "theirs").cpu_ratio is None


def test_budgets_apply_to_ratios_and_figures_and_fail_without_a_value():
    assert Row("f", "clips", 0.0, budget=at_most(0)).met
    assert Row("f", "clips", 1.0, budget=at_most(0)).met is False
    assert Row("f", "clips", budget=at_least(1)).met is False
    assert Row("f", "clips", 1.0).met is None
    assert headroom(Row("f", "", ratio=20.0, budget=at_least(10))) == 2
    assert headroom(Row("f", "", ratio=0.5, budget=at_most(1))) == 2
    assert headroom(Row("f", "", 1.0, budget=at_most(1))) is None


def test_rows_round_trip_through_json():
    row = Row("f", "ms", 1.0, "b", 2.0, 2.0, None, "baseline / ours", at_least(1.5), "n")
    assert Row.from_json(json.loads(json.dumps(row.to_json()))) == row


def test_report_lists_missed_budgets_and_unmeasured_rows(tmp_path):
    rows = [
        Row("first", "ms", 1.0, "b", 20.0, 20.0, 19.0, "baseline / ours", at_least(10), part="p"),
        Row("second", "ms", 1.0, "b", 2.0, 2.0, budget=at_least(10), part="p"),
        Row("third", note="could not be measured: no network", part="q"),
    ]
    text = markdown(rows, ABOUT)
    assert "| p | first | 1 ms | b: 20 ms | 20 | 19 | ≥ 10 | met |" in text
    assert "**missed**" in text
    assert "not measured" in text
    assert "- third: could not be measured: no network" in text
    labels = [label.get_text() for label in plot(rows, ABOUT).axes[0].get_yticklabels()]
    assert labels == ["p: first", "p: second"]
    write(tmp_path, rows, ABOUT)
    assert {path.name for path in tmp_path.iterdir()} == {"results.json", "results.md", "results.svg"}
    assert [row["met"] for row in json.loads((tmp_path / "results.json").read_text())["rows"]] == [True, False, None]


def test_failed_part_becomes_a_row_with_the_reason(tmp_path, capsys):
    arguments = argparse.Namespace(full=False, midi=tmp_path, out=tmp_path, only="midi")
    assert measure(["midi"], arguments) == 1
    (row,) = json.loads((tmp_path / "results.json").read_text())["rows"]
    assert "could not be measured: ValueError: " in row["note"]
    assert "must be a folder of MIDI files" in row["note"]
    assert row["ours"] is None
    assert "could not be measured" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "–"), (0.0, "0"), (0.123456, "0.123"), (12345.6, "12,346"), (4e-5, "4.0e-05"), (99, "99")],
)
def test_numbers_have_three_digits(value, text):
    assert number(value) == text


def test_pipeline_stages_exist():
    from bench import pipeline
    from pipeline.build import shards

    assert all(callable(getattr(shards, name)) for name in pipeline.STAGES.values())

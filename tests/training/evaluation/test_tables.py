import csv
import io

from training.evaluation import tables as table
from training.evaluation.paper_results import TABLE_41, TABLE_42


def row(name, paradigm="edm", data="encodec", parameters=3_000_000, clips=64_000, seconds=600.0, fad=5.0, **more):
    score = {"value": fad, "warning": "", "infinity": {"value": fad - 1, "r2": 0.9}}
    return {
        "run": name,
        "paradigm": paradigm,
        "format": data,
        "label": f"{data} (pvt)",
        "parameters": parameters,
        "batch": 16,
        "clips": clips,
        "training_seconds": seconds,
        "inference": {"8x4": {"seconds": 12.34, "extrapolated": True}},
        "fad": {
            "pvt-net": {"train": score, "valid": score},
            "vggish": {"train": {"missing": "no"}, "missing": "no file"},
        },
        "adherence": {"chroma": 0.5, "velocity_error": None},
        "anchors": {"ceiling": {"chroma": 0.97}, "floor": {"chroma": 0.13}},
        "ceiling": {"adherence": {"chroma": 0.95}, "fad": {}},
        **more,
    }


def cells(markdown):
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in markdown.strip().splitlines()]
    return lines[0], lines[2:]


def test_published_figures_are_the_reports():
    fads = {(r["paradigm"], r["format"]): r["fad"]["vggish"]["train"]["value"] for r in TABLE_41}
    assert fads == {
        ("ddpm", "cqt"): 7.23,
        ("edm", "cqt"): 4.63,
        ("ddpm", "encodec"): 73.84,
        ("edm", "encodec"): 7.48,
        ("discdpm", "disc"): 48.55,
    }
    assert [table.value(r, "inference.8x4.seconds") for r in TABLE_41] == [1216.2, 45.0, 39.6, 1.6, 112.8]
    assert [r["parameters"] for r in TABLE_41] == [56_900_000, 56_900_000, 225_800_000, 225_800_000, 87_900_000]
    assert [round(r["training_seconds"] / 3600, 1) for r in TABLE_41] == [75.7, 80.2, 36.3, 37.3, 77.2]
    assert table.value(TABLE_42[0], "inference.64x8.seconds") == 12.7


def test_a_missing_value_is_an_empty_cell_and_an_empty_column_is_left_out():
    columns = (table.Column("a", "a"), table.Column("b", "x.y"), table.Column("c", "c"))
    heading, lines = cells(table.markdown([{"a": 1, "x": {"y": 2}}, {"a": 3}], columns))
    assert heading == ["a", "b"]
    assert lines == [["1", "2"], ["3", table.EMPTY]]


def test_names_cannot_break_the_table():
    _, lines = cells(table.markdown([{"a": "one\ntwo"}], (table.Column("a", "a"),)))
    assert lines == [["one two"]]
    assert "x\\|y" in table.markdown([{"a": "x|y"}], (table.Column("a", "a"),))


def test_runs_stand_below_the_published_row_of_their_framework():
    runs = [row("mine"), row("disc", "discdpm", "disc"), row("other")]
    names = [(r["run"], r["paradigm"], r["format"]) for r in table.beside_published(runs, TABLE_41)]
    assert names == [
        ("published", "ddpm", "cqt"),
        ("published", "edm", "cqt"),
        ("published", "ddpm", "encodec"),
        ("published", "edm", "encodec"),
        ("mine", "edm", "encodec"),
        ("other", "edm", "encodec"),
        ("published", "discdpm", "disc"),
        ("disc", "discdpm", "disc"),
    ]


def test_equal_group_is_the_largest_within_the_tolerance():
    runs = [row("a", parameters=100), row("b", parameters=105), row("c", parameters=300), row("d", parameters=109)]
    assert [r["run"] for r in table.equal_group(runs, "parameters")] == ["a", "b", "d"]
    assert [r["run"] for r in table.equal_group(runs, "parameters", 0.045)] == ["b", "d"]
    assert table.equal_group([{"parameters": None}], "parameters") == []


def test_equal_budgets_say_so_when_there_are_none():
    text = table.equal_budgets([row("a", seconds=100.0), row("b", seconds=300.0)], ["pvt-net"])
    assert "No two of these models have equal seconds of training" in text
    assert text.count("| a |") == 2


def test_report_marks_extrapolated_times_missing_weights_and_anchors():
    text = table.report([row("mine")])
    assert "12.3 s (extrapolated)" in text
    assert "no weights" in text
    assert "vggish: no file" in text
    assert "| real clips, other controls |" in text
    assert "0.970" in text
    assert "0.130" in text
    assert "5.00" in text
    assert "4.00 (R² 0.90)" in text


def test_csv_holds_every_plain_value_of_every_row():
    rows = [row("a"), row("b", extra=7)]
    read = list(csv.DictReader(io.StringIO(table.csv_text(rows))))
    assert [line["run"] for line in read] == ["a", "b"]
    assert read[0]["fad.pvt-net.train.value"] == "5.0"
    assert (read[0]["extra"], read[1]["extra"]) == ("", "7")


def test_durations_have_the_units_of_the_report():
    assert [table.duration(s) for s in (1.6, 112.8, 1216.2, 75.7 * 3600)] == ["1.6 s", "112.8 s", "1216.2 s", "75.7 h"]

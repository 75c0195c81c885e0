"""Comparison of paradigms: equal parameters, the same control branch, training stopped by core-seconds, the table."""

import sys

import pytest

from bench import paradigms
from bench.paradigms import CONFIG, ENTRIES, Comparison, Sizes, train_for
from bench.paradigms_table import write
from training.conditioning import ControlLayout
from training.config import load_config
from training.networks import build_network, parameter_count

SHAPES = {"encodec": (128, 600), "cqt": (2, 216, 1921), "disc": (16, 600)}
LAYOUT = ControlLayout((("velocity", 1), ("chroma", 1), ("instruments", 3)))
SIZES = Sizes(seconds=10, clips="4:2", reported=2, chosen=2, length=4)


def test_rows_have_equal_parameters_and_control_branches():
    counts, branches = [], []
    for entry in ENTRIES:
        config = load_config(str(CONFIG), entry.paradigm, entry.format, overrides=entry.overrides)
        codes = {"classes": 1024, "vocabulary": 1025} if entry.format == "disc" else {}
        counts.append(parameter_count(build_network(config.network, SHAPES[entry.format], LAYOUT, **codes)))
        branches.append(config.network["controls"])
    assert max(counts) <= 1.05 * min(counts)
    assert all(branch == branches[0] for branch in branches)


@pytest.fixture
def spinning(tmp_path, monkeypatch):
    """A training that computes until SIGTERM, then exits with status 0 after writing `stopped`."""
    package = tmp_path / "training"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "__main__.py").write_text(
        "import signal, sys\n"
        "def stop(*_):\n    open('stopped', 'w').close(); sys.exit(0)\n"
        "signal.signal(signal.SIGTERM, stop)\n"
        "while True: sum(range(10000))\n"
    )
    monkeypatch.setattr(paradigms, "ROOT", tmp_path)
    monkeypatch.setattr(paradigms, "one_thread", lambda: {"PATH": ""})
    return tmp_path


def test_a_run_is_stopped_by_its_processor_time(spinning):
    used = train_for(spinning / "run", spinning, ENTRIES[0], 0.3)
    assert used >= 0.3
    assert (spinning / "stopped").exists()


def test_training_continues_from_the_core_seconds_of_before(tmp_path, monkeypatch):
    asked = []

    def train(run, data, entry, seconds):
        asked.append(seconds)
        return seconds / 2 if len(asked) == 1 else seconds

    monkeypatch.setattr(paradigms, "train_for", train)
    Comparison(tmp_path, SIZES).train(ENTRIES[0])
    assert asked == [10, 5]
    Comparison(tmp_path, SIZES).train(ENTRIES[0])
    assert asked == [10, 5]  # nothing is left


def test_a_failed_run_stops_the_comparison(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(SystemExit, match="EDM-encodec failed"):
        train_for(tmp_path / "run", tmp_path, ENTRIES[0], 100)


def test_the_table_names_rows_that_are_not_scored(tmp_path):
    row = {"run": "EDM-encodec", "fad": {"pvt-net": {"train": {"value": 3.5}}}, "reported": 2}
    text = write(tmp_path, {"EDM-encodec: row": row}, ["EDM-encodec", "EDM-cqt"])
    assert "3.50" in text
    assert "Not scored: EDM-cqt." in text
    assert "73.84" in text
    assert (tmp_path / "paradigms.md").read_text() == text

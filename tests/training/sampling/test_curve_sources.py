"""Sources of control curves: shipped files, a user's own, and clips of a dataset; selection of runs."""

from pathlib import Path

import pytest

from data_specs.controls import CONTROLS
from data_specs.controls.curves import Curves
from data_specs.errors import UserError
from training.runs import run_folder, run_names, select_runs
from training.sampling.curve_sources import control_sets, shipped_curves


@pytest.fixture(scope="module")
def data(make_dataset, tmp_path_factory):
    """A folder with encodec clips, and cqt clips of the same number beside it."""
    parent = tmp_path_factory.mktemp("data")
    for format_name in ("encodec", "cqt"):
        make_dataset(parent, format_name, {"train": 2, "valid": 2}, shard_clips=2)
    return parent / "PVT-encodec"


def test_shipped_curves_suit_a_clip_of_eight_seconds():
    sets = control_sets("")
    assert [one.name for one in sets] == list(shipped_curves())
    assert {"climb", "partial", "relay", "swell"} <= set(shipped_curves())
    for one in sets:
        assert not one.curves.for_controls(tuple(CONTROLS)).notices
        assert isinstance(one.curves, Curves)
        assert 0 < one.curves.samples <= 192_000
        assert one.real is None


def test_a_former_name_is_an_alias():
    (old,), (new,) = control_sets("unsaid"), control_sets("partial")
    assert old == new
    assert old.name == "partial"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nothing", "is neither a known name nor a file"),
        ("swell,swell", "got swell twice"),
        (",", "must name one or more curves"),
        ("DATA:valid:2", "there is no 2"),
        ("DATA:valid:1-0", "must have a range of clips"),
        ("DATA:test:0", "the split must be train or valid, got 'test'"),
        ("DATA", "must be a curve file"),
        ("gone:valid:0", "there is no dataset"),
    ],
)
def test_controls_that_name_nothing_are_refused(data, text, message):
    with pytest.raises(UserError, match=message):
        control_sets(text.replace("DATA", str(data)))


def test_clips_of_any_format_give_their_curves(data):
    (named,) = control_sets(f"{data}:valid:0", "cqt")
    (found,) = control_sets(f"{data.parent}:valid:0", "encodec")
    (other,) = control_sets(f"{data.parent}:valid:0", "cqt")
    assert named.curves == found.curves != other.curves
    assert named.real_label.startswith("through encodec")
    assert other.real_label == "through cqt"
    assert named.real.shape == other.real.shape == (1, 192_000)


def test_runs_are_selected_by_name_paradigm_and_spec():
    assert [str(path) for path in select_runs("a, b", None, None, "tiny")] == ["a", "b"]
    assert [str(path) for path in select_runs(None, "discdpm", None, "tiny")] == ["runs/discdpm-disc-tiny"]
    assert str(run_folder("edm", "cqt", "x/small.toml", "mine/bells.toml")) == "runs/bells-edm-cqt-small"
    with pytest.raises(UserError, match="PARADIGM"):
        select_runs(None, "gan", None, "tiny")


def test_curve_files_of_one_stem_get_names_of_their_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("a/song.json", "b/song.json", "b/song.csv", "swell.json"):
        Path(name).parent.mkdir(exist_ok=True)
        text = "time,velocity\n0,0.5\n" if name.endswith("csv") else '{"version": 1, "velocity": 0.5}'
        Path(name).write_text(text)
    sets = control_sets("a/song.json,b/song.json,b/song.csv,swell,swell.json")
    assert [one.name for one in sets] == ["a-song-json", "b-song-json", "b-song-csv", "swell", "swell-json"]
    assert [one.name for one in control_sets("a/song.json")] == ["song"]


def test_names_distinguish_runs(tmp_path):
    assert run_names([tmp_path / "a" / "run", tmp_path / "b" / "run"]) == ["a/run", "b/run"]
    assert run_names([tmp_path / "a", tmp_path / "b"]) == ["a", "b"]
    for wrong in ([], [tmp_path, tmp_path]):
        with pytest.raises(UserError, match="RUN= must name"):
            run_names(wrong)

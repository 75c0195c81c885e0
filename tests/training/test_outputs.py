"""OUT= that cannot be written: one sentence before any model is loaded."""

from importlib import import_module

import pytest

from pvt.cli import VERBS
from training.runs import shipped_model

SHIPPED = shipped_model()


@pytest.fixture
def refused(monkeypatch, capsys, tmp_path):
    """Run a verb with an OUT that it refuses; return the sentence. A model that is loaded fails the test."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("x")
    (tmp_path / "folder").mkdir()
    monkeypatch.setattr("training.model.load_model", None)

    def run(*arguments: str) -> str:
        assert import_module(f"{VERBS[arguments[0]][0]}.cli").main(list(arguments)) == 2
        error = capsys.readouterr().err
        assert error.startswith("error: ")
        assert error.count("\n") == 1
        return error

    return run


@pytest.mark.parametrize("command", ["sample", "sweep", "evaluate", "toys"])
def test_a_file_where_a_folder_is_meant_is_refused_before_the_work(refused, command):
    models = [] if command == "toys" else [f"--run={SHIPPED}"]
    assert "a part of its path is a file" in refused(command, *models, "--out=file")
    assert "is too long" in refused(command, *models, f"--out={'n' * 256}")


@pytest.mark.parametrize(
    "command", [["demo", f"--run={SHIPPED}"], ["export", str(SHIPPED)], ["card"], ["codec", "fit"]]
)
def test_a_folder_where_a_file_is_meant_is_refused_before_the_work(refused, command, tmp_path):
    suffix = {"export": ".safetensors", "codec": ".safetensors"}.get(command[0], "")
    (tmp_path / f"folder{suffix}").mkdir(exist_ok=True)
    assert "is a folder; give the path of a file" in refused(*command, f"--out=folder{suffix}")
    assert "is too long" in refused(*command, f"--out={'n' * 250}{suffix or '.html.page'}")


def test_a_snapshot_is_not_exported_onto_itself(refused, tmp_path):
    own = tmp_path / "model.safetensors"
    own.write_bytes(SHIPPED.read_bytes())
    assert "must be another file than the snapshot" in refused("export", str(own), str(own))
    assert own.read_bytes() == SHIPPED.read_bytes()

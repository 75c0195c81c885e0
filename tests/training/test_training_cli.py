"""The command line: quick help, one sentence for what is wrong."""

import subprocess
import sys
from pathlib import Path

import pytest

from training.cli import main

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("arguments", [["--help"], ["train", "--help"], ["format", "--help"]])
def test_help_imports_nothing_heavy(arguments):
    heavy = {"torch", "numpy", "pydantic", "matplotlib", "librosa"}
    code = (
        "import sys\ntry:\n    from training.cli import main; main(sys.argv[1:])\n"
        f"except SystemExit: pass\nprint('loaded:', sorted({heavy!r} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, cwd=ROOT)
    assert "usage: python -m training" in done.stdout
    assert done.stdout.splitlines()[-1] == "loaded: []"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "--paradigm", "edm", "--format", "disc"], "edm does not train on --format disc"),
        (["train", "--paradigm", "gan"], "--paradigm gan is not known"),
        (["train", "--paradigm", "edm", "--steps", "-3"], "--steps must be an integer >= 1, got '-3'"),
        (["train", "--paradigm", "edm", "--gpus", "0"], "--gpus must be an integer >= 1, got '0'"),
        (["train", "--paradigm", "edm", "--config", "nowhere.toml"], "--config nowhere.toml is neither"),
        (["train"], "--paradigm"),
        (["trian"], "invalid choice"),
    ],
)
def test_what_is_wrong_is_one_sentence(capsys, arguments, message):
    try:
        status = main(arguments)
    except SystemExit as end:  # argparse's own way out
        status = end.code
    assert status == 2
    error = capsys.readouterr().err.strip()
    assert error.startswith("error: ")
    assert message in error
    assert "\n" not in error


def test_no_dataset(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = tmp_path / "c.toml"
    config.write_text(
        "[training]\nsteps = 1\nbatch = 1\n[network.encodec]\nkind = 'unet'\nchannels = 4\nskip = 1\nfactors = [2]"
    )
    assert main(["train", "--paradigm", "edm", "--config", str(config), "--device", "cpu"]) == 2
    assert "there is no dataset at data/PVT-encodec; build it with make dataset" in capsys.readouterr().err


def test_the_format_of_a_paradigm(capsys):
    assert main(["format", "discdpm"]) == 0
    assert main(["format", "edm", "cqt"]) == 0
    assert capsys.readouterr().out == "disc\ncqt\n"


def test_a_run_gets_its_name_from_what_it_is(encodec_data, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = tmp_path / "small.toml"
    config.write_text(
        "[training]\nsteps = 3\nbatch = 2\nseconds = 1\n[logging]\nlisten_clips = 1\n"
        "[network.encodec]\nkind = 'unet'\nchannels = 4\nskip = 1\nfactors = [2]\n"
    )
    options = ["--config", str(config), "--data", str(encodec_data[0].parent), "--device", "cpu", "--micro-batch", "1"]
    assert main(["train", "--paradigm", "edm", *options]) == 0
    run = tmp_path / "runs" / "edm-encodec-small"
    assert (run / "checkpoints" / "step-00000003" / "snapshot.safetensors").exists()
    assert (run / "listen" / "step-00000003" / "sample-0.wav").exists()
    assert (run / "listen" / "step-00000003" / "sample-0.png").exists()


def test_the_public_names():
    import training

    assert training.Dataset.__name__ == "Dataset"
    assert training.load_model.__module__ == "training.model"
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        training.nothing  # noqa: B018


def test_runs_are_listed_with_their_state(tmp_path, capsys):
    assert main(["runs", "--out", str(tmp_path)]) == 0
    assert "there are no runs" in capsys.readouterr().out
    run = tmp_path / "one"
    run.mkdir()
    (run / "config.json").write_text(
        '{"training": {"steps": 8}, "machine": {}, "logging": {}, "data": {"digest": "0"}}'
    )
    (run / "log.jsonl").write_text(
        '{"step": 2, "loss": 0.5}\n{"step": 2, "valid_loss": 0.25}\n{"step": 4, "loss": null}\n'
    )
    assert main(["runs", "--out", str(tmp_path)]) == 0
    assert capsys.readouterr().out == f"{run}: step 4 of 8 (50%), loss 0.5000, valid_loss 0.2500\n"

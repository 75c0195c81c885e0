"""What a user types: each slip is one sentence and exit status 2, before any work."""

import subprocess
from pathlib import Path

import pytest

from pipeline.cli import main, parse_formats

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--format", "enocdec"], "--format must be one of"),
        (["--format", "cqt,"], "got ''"),
        (["--spec", "smaple"], "--spec must be one of"),
        (["--codec", "mp3"], "--codec must be one of"),
        (["--clips", "400"], "--clips 400:80"),
        (["--midi", "no/such/folder", "--format", "audio"], "no/such/folder"),
        (["--soundfont", "no/such.sf2", "--format", "audio"], "no/such.sf2"),
        (["--workers", "0", "--format", "audio"], "--workers must be an integer >= 1, got '0'"),
        (["--workers", "many"], "--workers must be"),
        (["--seed", "x"], "--seed must be"),
        (["--shards", "3/3", "--format", "audio"], "--shards 3/3"),
        (["--fromat", "cqt"], "--fromat"),
    ],
)
def test_a_slip_is_one_sentence_and_exit_2(arguments, named, tmp_path, capsys):
    try:
        status = main(["dataset", "--out", str(tmp_path / "out"), *arguments])
    except SystemExit as stop:  # argparse's own refusals
        status = stop.code
    error = capsys.readouterr().err
    assert status == 2
    assert named in error
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert not list(tmp_path.rglob("PVT-*"))


def test_formats_are_built_in_one_order():
    assert parse_formats("all") == ("audio", "cqt", "encodec", "disc")
    assert parse_formats("disc, audio") == ("audio", "disc")


def test_dry_run_prints_the_plan_and_builds_nothing(tmp_path, capsys):
    assert main(["dataset", "--dry-run", "--format", "audio,cqt", "--clips", "9:3", "--out", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert "audio" in printed
    assert "9 train" in printed
    assert "GB" in printed
    assert not list(tmp_path.glob("PVT-*"))


def make(*arguments: str, **environment: str) -> subprocess.CompletedProcess:
    command = ["make", "--dry-run", "--old-file", ".venv/ready", *arguments]
    return subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, env={"PATH": "/usr/bin:/bin", **environment}
    )


def test_make_passes_what_is_given_and_nothing_from_the_environment():
    said = make("dataset", "MIDI=/my songs", "CLIPS=4:1", "FORCE=1", "DRY_RUN=0", SPEC="pvt", OUT="elsewhere").stdout
    assert '--midi "/my songs"' in said
    assert '--clips "4:1"' in said
    assert "--force" in said
    assert "--dry-run" not in said
    assert "--spec" not in said
    assert "elsewhere" not in said


def test_make_refuses_a_variable_it_does_not_know():
    refused = make("dataset", "FROMAT=cqt")
    assert refused.returncode != 0
    assert "FROMAT is not a variable" in refused.stderr


def test_make_help_names_every_variable():
    text = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    declared = (ROOT / "Makefile").read_text().partition("VARIABLES =")[2].partition("$(foreach")[0]
    for name in declared.replace("\\", " ").split():
        assert f"  {name} " in text, name

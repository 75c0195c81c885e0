"""Command lines: each error is one sentence and exit status 2, before any work."""

import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.cli import default_folder, main, parse_formats

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
        (["--shards", "3/3", "--format", "audio"], "--shards must be i/n with 0 <= i < n, got '3/3'"),
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
    assert "--midi='/my songs'" in said
    assert "--clips='4:1'" in said
    assert "--force" in said
    assert "--dry-run" not in said
    assert "--spec" not in said
    assert "elsewhere" not in said


def test_make_values_reach_the_program_as_typed_and_are_never_executed(tmp_path):
    """A substitute for Python records its arguments; every verb gets values that make and the shell would expand."""
    (tmp_path / "bin").mkdir()
    python = tmp_path / "bin" / "python"
    python.write_text(f'#!/bin/bash\nprintf "%s\\0" "$@" >>"{tmp_path}/ran"\n')
    python.chmod(0o755)
    (tmp_path / "ready").touch()
    pwned = tmp_path / "pwned"
    values = {
        "MIDI": f'$(shell touch {pwned}) $(touch {pwned}) `touch {pwned}` $HOME $$ it\'s "5" a,b #1 %s',
        "OUT": f"';touch {pwned};'",
        "CONTROLS": f'";touch {pwned};"',
        "RUN": f"$(call option,x,MIDI)`touch {pwned}`",
        "PARADIGM": f"`touch {pwned}`",
        "FORMAT": f"$(touch {pwned})",
        "DATA": f"a b`touch {pwned}`",
    }
    given = [f"{name}={value}" for name, value in values.items()]
    verbs = (
        "dataset",
        "validate",
        "report",
        "train",
        "sample",
        "controls",
        "sweep",
        "evaluate",
        "demo",
        "export",
        "codec",
    )
    for verb in verbs:
        command = ["make", "--old-file", f"{tmp_path}/ready", verb, f"VENV={tmp_path}", *given]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 0, (verb, done.stderr)
    assert not pwned.exists()
    ran = (tmp_path / "ran").read_text().split("\0")
    options = {word.partition("=")[2] for word in ran if word.startswith("--")} | set(ran)
    assert {value for name, value in values.items() if name != "CONTROLS"} <= options


def test_doctor_reports_with_a_bare_python():
    """As before make setup: no package of the environment can be imported, nothing is installed."""
    command = [sys.executable, "-S", "-m", "pipeline.tools.doctor"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env={"PATH": "/usr/bin:/bin"})
    assert done.returncode == 1
    assert "type: make setup" in done.stdout
    assert "memory" in done.stdout
    assert not done.stderr


@pytest.mark.parametrize(
    ("spec", "folder"), [("sample", "data"), ("pvt", "data/pvt"), ("my specs/flutes.toml", "data/flutes")]
)
def test_other_specs_have_a_folder_of_their_own_in_the_command_and_in_make(spec, folder):
    assert default_folder(spec) == Path(folder)
    assert f"test -e '{folder}'/PVT-$format/dataset.json" in make("train", f"SPEC={spec}", "PARADIGM=edm").stdout


def test_a_dry_run_without_the_midi_of_the_spec_shows_its_size(tmp_path, capsys):
    assert main(["dataset", "--spec", "pvt", "--format", "all", "--dry-run", "--out", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert "lmd_full.tar.gz does not exist" in printed
    assert "100000 train   20000 valid     60 shards" in printed
    assert not list(tmp_path.iterdir())


def test_a_report_into_a_folder_is_refused_before_work(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("pipeline.tools.report.finished_datasets", lambda data: [])
    assert main(["report", "--out", str(tmp_path)]) == 2
    assert f"{tmp_path} is a folder; give the path of a file" in capsys.readouterr().err


def test_make_refuses_a_variable_it_does_not_know():
    refused = make("dataset", "FROMAT=cqt")
    assert refused.returncode != 0
    assert "FROMAT is not a variable" in refused.stderr


def test_make_help_names_every_variable():
    text = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    declared = (ROOT / "Makefile").read_text().partition("VARIABLES =")[2].partition("$(foreach")[0]
    for name in declared.replace("\\", " ").split():
        assert f"  {name} " in text, name


@pytest.mark.parametrize(("level", "name"), [(None, "--workers"), ("1", "WORKERS=")])
def test_errors_name_options_as_typed(level, name, monkeypatch, capsys):
    if level:
        monkeypatch.setenv("MAKELEVEL", level)
    assert main(["dataset", "--workers", "0"]) == 2
    assert f"{name} must be an integer" in capsys.readouterr().err

"""Devices that this machine lacks, and numbers that cannot be, in every command that samples or trains."""

from importlib import import_module

import pytest
import torch

from pvt.cli import VERBS
from training.runs import shipped_model

COMMANDS = ("train", "sample", "sweep", "evaluate", "demo")
SHIPPED = shipped_model()


def run(command: str, *options: str) -> int:
    """Run a verb as `pvt` does."""
    required = ["--paradigm=edm"] if command == "train" else [f"--run={SHIPPED}"]
    status: int = import_module(f"{VERBS[command][0]}.cli").main([command, *required, *options])
    return status


@pytest.mark.parametrize("command", [*COMMANDS, "studio"])
@pytest.mark.parametrize(
    ("device", "message"),
    [
        ("tpu", "--device must be one of cpu, cuda, mps, got 'tpu'"),
        ("cuda", "GPU 0 was requested and this machine has 0"),
        ("mps", "mps is not available on this machine"),
    ],
)
def test_a_device_that_is_not_there_is_refused_in_a_sentence(command, device, message, monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    options = [f"--device={device}", *(["--no-browser"] if command == "studio" else [])]
    if command == "train":
        options.append("--dry-run")
    assert run(command, *options) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert message in error


@pytest.mark.parametrize("command", ["sample", "sweep", "evaluate", "demo"])
def test_a_negative_seed_is_refused_by_name(command, monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert run(command, "--seed=-1", "--device=cpu") == 2
    assert "--seed must be an integer >= 0, got '-1'" in capsys.readouterr().err

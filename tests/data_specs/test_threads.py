"""Threads: the fewest that are fastest, and passive waiting in every command."""

import os
import subprocess
import sys
import time
from importlib import import_module
from pathlib import Path

import pytest
import torch

from data_specs.threads import fastest_threads
from pvt.cli import VERBS

ROOT = Path(__file__).parents[2]


def test_more_threads_are_taken_only_where_they_are_faster(monkeypatch):
    clock, now = {1: 1.0, 2: 0.6, 4: 0.55}, [0.0]
    threads = [1]
    monkeypatch.setattr(torch, "set_num_threads", lambda count: threads.__setitem__(0, count))
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    assert fastest_threads(lambda: now.__setitem__(0, now[0] + clock[threads[0]]), 4) == 2
    assert fastest_threads(lambda: now.__setitem__(0, now[0] + 1.0), 4) == 1


@pytest.mark.parametrize(
    ("package", "arguments"),
    [
        ("training.cli", ["format", "edm"]),
        ("pipeline.cli", ["validate", "--data", "nowhere"]),
        ("pvt.cli", ["report", "--data", "nowhere"]),
        ("pvt.studio.cli", ["studio", "--run", "nowhere"]),
    ],
)
def test_every_command_waits_passively_before_torch_is_loaded(package, arguments):
    """An import hook records the policy at the moment at which torch comes."""
    code = (
        "import os, sys\n"
        "class Hook:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'torch': assert os.environ['OMP_WAIT_POLICY'] == 'passive'\n"
        "sys.meta_path.insert(0, Hook())\n"
        f"from {package} import main\n"
        f"main({arguments!r})\n"
        "print(os.environ['OMP_WAIT_POLICY'])"
    )
    environment = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.stdout.split()[-1:] == ["passive"], done.stderr


@pytest.mark.parametrize("command", ["report", "validate", "toys", "studio", "sample", "sweep", "evaluate", "demo"])
def test_threads_overrides_the_number_in_every_command_that_computes(command, capsys):
    """A number that cannot be is refused by the option's name, so the option is read."""
    package = "pvt.studio.cli" if command == "studio" else VERBS[command][0] + ".cli"
    assert import_module(package).main([command, "--threads", "none"]) == 2
    assert "--threads must be an integer >= 1, got 'none'" in capsys.readouterr().err

"""Threads: the fewest that are fastest, and passive waiting in every command."""

import os
import subprocess
import sys
import time
from pathlib import Path

import torch

from training.threads import fastest_threads

ROOT = Path(__file__).parents[2]


def test_more_threads_are_taken_only_where_they_are_faster(monkeypatch):
    clock, now = {1: 1.0, 2: 0.6, 4: 0.55}, [0.0]
    threads = [1]
    monkeypatch.setattr(torch, "set_num_threads", lambda count: threads.__setitem__(0, count))
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    assert fastest_threads(lambda: now.__setitem__(0, now[0] + clock[threads[0]]), 4) == 2
    assert fastest_threads(lambda: now.__setitem__(0, now[0] + 1.0), 4) == 1


def test_commands_wait_passively():
    code = (
        "import os\nfrom training.cli import main\ntry: main(['format', 'edm'])\nexcept SystemExit: pass\n"
        "print(os.environ['OMP_WAIT_POLICY'])"
    )
    environment = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.stdout.split() == ["encodec", "passive"]

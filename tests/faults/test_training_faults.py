"""A trainer killed while it saves, and ranks of which one alone is told to stop.

Signals, the stop file, ranks that die and values that are not finite: tests/training/test_trainer.py.
"""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from tests.training.conftest import write_dataset
from tests.training.processes import rank_processes
from training.config import load_config
from training.log import read_log
from training.trainer import train

ROOT = Path(__file__).parents[2]
STEPS = 40
CONFIG = f"""
[training]
precision = "float32"
steps = {STEPS}
batch = 4
seconds = 0.5
learning_rate = 3e-3
warmup_steps = 10
[logging]
log_every = 1
valid_every = 0
listen_every = 0
checkpoint_every = 1
[network.encodec]
kind = "unet"
channels = 8
skip = 1
factors = [2]
embedding = 16
controls = {{ local = {{ channels = 8 }} }}
"""
# Forks trainers and kills each in the middle of a save: with torch imported once, twenty take seconds.
KILLS = """
import os, random, signal, sys, time
from pathlib import Path
import torch
from training.config import load_config
from training.trainer import train

run, data, config, kills, seed = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], int(sys.argv[4]), int(sys.argv[5])
torch.set_num_threads(1)
config = load_config(config, "edm")
dice = random.Random(seed)
killed = 0
for _ in range(kills):
    child = os.fork()
    if not child:
        train(run, data, config)
        os._exit(0)
    saves, seen = dice.randrange(1, 3), set()
    while len(seen) < saves and not os.waitpid(child, os.WNOHANG)[0]:
        seen |= {path.name for path in (run / "checkpoints").glob(".step-*[0-9]")}
    time.sleep(dice.uniform(0, 0.004))
    try:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        killed += 1
    except ProcessLookupError:
        break
print("kills:", killed)
"""


@pytest.fixture(scope="module")
def config_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("config") / "small.toml"
    path.write_text(CONFIG)
    return path


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_dataset(tmp_path_factory.mktemp("data"), "encodec", {"train": 9, "valid": 2})[0]


@pytest.fixture(scope="module")
def whole(data, config_file, tmp_path_factory):
    """Losses of a run that nothing disturbed."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    run = tmp_path_factory.mktemp("run") / "whole"
    train(run, data, load_config(str(config_file), "edm"))
    torch.set_num_threads(threads)
    return losses(run)


def losses(run):
    return {line["step"]: line["loss"] for line in read_log(run) if "loss" in line}


def environment():
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}


@pytest.mark.parametrize("kills", [3, pytest.param(20, marks=pytest.mark.slow)])
def test_killed_while_saving_the_run_goes_on_from_the_newest_whole_checkpoint(
    whole, data, config_file, tmp_path, kills
):
    run = tmp_path / "run"
    arguments = [str(run), str(data), str(config_file), str(kills), "11"]
    done = subprocess.run(
        [sys.executable, "-c", KILLS, *arguments], cwd=ROOT, env=environment(), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert f"kills: {kills}" in done.stdout
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        assert train(run, data, load_config(str(config_file), "edm")) == ""
    finally:
        torch.set_num_threads(threads)
    assert losses(run) == whole
    assert not list((run / "checkpoints").glob(".*"))


def test_a_signal_to_one_of_two_ranks_stops_both_at_the_same_step(data, config_file, tmp_path):
    """Without an agreement the other rank would wait for it in the middle of a step."""
    command = [sys.executable, "-m", "training", "train", "--paradigm", "edm", "--config", str(config_file)]
    options = ["--data", str(data), "--run", str(tmp_path), "--gpus", "2", "--device", "cpu", "--steps", "100000"]
    process = subprocess.Popen([*command, *options], env=environment(), cwd=ROOT, stdout=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 100
    while max(losses(tmp_path), default=0) < 3:
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    os.kill(rank_processes(process.pid)[1], signal.SIGTERM)
    try:
        said = process.communicate(timeout=60)[0]
    finally:
        process.kill()
    assert process.returncode == 0
    assert "stopped by a signal to another rank" in said
    newest = max((tmp_path / "checkpoints").iterdir()).name
    assert newest == f"step-{max(losses(tmp_path)):08d}"

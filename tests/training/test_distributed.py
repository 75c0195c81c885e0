"""Ranks as torchrun and srun announce them, devices, and ranks on this machine."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from data_specs.errors import UserError
from training.distributed import World, choose_device, launched, ranks_from

ROOT = Path(__file__).parents[2]
SRUN = {"SLURM_STEP_NUM_TASKS": "8", "SLURM_PROCID": "5", "SLURM_LOCALID": "1", "SLURM_NTASKS": "8"}
MEETING = {"MASTER_ADDR": "n1", "MASTER_PORT": "20001"}


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, (0, 1, 0)),
        ({"RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1", **MEETING}, (3, 4, 1)),
        ({"RANK": "0", "WORLD_SIZE": "1"}, (0, 1, 0)),
        ({"RANK": "3"}, (0, 1, 0)),  # left over from something else
        ({**SRUN, **MEETING}, (5, 8, 1)),
        ({"SLURM_NTASKS": "8", "SLURM_PROCID": "0"}, (0, 1, 0)),  # the batch script itself
        ({**SRUN, "SLURM_STEP_NUM_TASKS": "1", "SLURM_PROCID": "0"}, (0, 1, 0)),
    ],
)
def test_ranks(environment, expected):
    assert ranks_from(environment) == expected


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        (SRUN, "SLURM_STEP_NUM_TASKS=8 is set .* but MASTER_ADDR or MASTER_PORT is not; export them as the template"),
        ({"RANK": "0", "WORLD_SIZE": "2"}, "WORLD_SIZE=2 is set in the environment .* unset RANK and WORLD_SIZE"),
        ({"RANK": "4", "WORLD_SIZE": "4", **MEETING}, "RANK=4 and WORLD_SIZE=4 in the environment contradict"),
        ({"RANK": "x", "WORLD_SIZE": "4", **MEETING}, "RANK=x and WORLD_SIZE=4 in the environment contradict"),
    ],
)
def test_ranks_that_cannot_meet_are_refused(environment, message):
    with pytest.raises(UserError, match=message):
        ranks_from(environment)


def test_only_a_launcher_marks_a_process_as_launched():
    assert not launched({"RANK": "0", "WORLD_SIZE": "2", **MEETING})
    assert launched({"RANK": "0", "WORLD_SIZE": "2", "TORCHELASTIC_RUN_ID": "none", **MEETING})
    assert launched({**SRUN, **MEETING})


def test_devices(monkeypatch):
    assert choose_device("cpu") == torch.device("cpu")
    for name in ("gpu", "meta", "tpu", "cuda:x"):
        with pytest.raises(UserError, match=f"DEVICE= must be one of cpu, cuda, mps, got '{name}'"):
            choose_device(name)
    with pytest.raises(UserError, match="DEVICE=mps is not available"):
        choose_device("mps")
    with pytest.raises(UserError, match="GPU 0 was requested and this machine has 0"):
        choose_device("cuda")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert choose_device(None, 1) == torch.device("cuda", 1)
    assert choose_device("cuda:0", 1) == torch.device("cuda", 0)
    with pytest.raises(UserError, match="GPU 2 was requested and this machine has 2"):
        choose_device(None, 2)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "4")
    assert choose_device(None, 3) == torch.device("cuda", 0)  # each task sees one GPU


def test_a_single_rank_communicates_with_itself():
    world = World(0, 1, torch.device("cpu"))
    values = torch.tensor([1.5, 2.0], dtype=torch.float64)
    assert torch.equal(world.all_reduce_sum(values), values)
    assert world.main
    assert torch.equal(world.all_gather(torch.arange(3)), torch.arange(3))


RANK = """
import os, sys, time
from pathlib import Path
folder = Path({folder!r})
(folder / (os.environ["RANK"] + ".ready")).write_text(os.environ["WORLD_SIZE"])
while not (folder / "run" / "stop").exists():
    if {fail} and os.environ["RANK"] == "1":
        sys.exit(7)
    time.sleep(0.02)
"""


def launcher(folder, fail=False):
    """A process that launches two ranks, each of which waits for the stop file of `folder`/run."""
    package = folder / "path" / "training"
    package.mkdir(parents=True)
    (folder / "run").mkdir()
    (package / "__init__.py").touch()
    (package / "__main__.py").write_text(RANK.format(folder=str(folder), fail=fail))
    code = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r})\n"
        "import os, pathlib; from training.launch import launch\n"
        f"os.environ['PYTHONPATH'] = {str(folder / 'path')!r}\n"
        f"sys.exit(launch(2, pathlib.Path({str(folder / 'run')!r}), []))"
    )
    return subprocess.Popen([sys.executable, "-c", code], cwd=folder, stderr=subprocess.PIPE, text=True)


def test_one_failure_ends_all(tmp_path):
    process = launcher(tmp_path, fail=True)
    error = process.communicate(timeout=100)[1]
    assert process.returncode != 0
    assert "exitcode  : 7" in error


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1, signal.SIGINT])
def test_a_signal_stops_all_ranks_by_the_stop_file(tmp_path, number):
    process = launcher(tmp_path)
    deadline = time.monotonic() + 100
    while len(list(tmp_path.glob("*.ready"))) < 2 and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(number)
    process.communicate(timeout=100)
    assert process.returncode == 0
    assert (tmp_path / "run" / "stop").read_text() == signal.Signals(number).name
    assert {path.read_text() for path in tmp_path.glob("*.ready")} == {"2"}

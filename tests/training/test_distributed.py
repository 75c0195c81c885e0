"""Ranks as torchrun and srun announce them, devices, and the launcher of this machine."""

import signal
import subprocess
import sys
import time

import pytest
import torch

from data_specs.errors import UserError
from training.distributed import World, choose_device, ranks_from
from training.launch import launch

SRUN = {"SLURM_STEP_NUM_TASKS": "8", "SLURM_PROCID": "5", "SLURM_LOCALID": "1", "SLURM_NTASKS": "8"}


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, (0, 1, 0)),
        ({"RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1"}, (3, 4, 1)),
        ({**SRUN, "MASTER_ADDR": "n1", "MASTER_PORT": "20001"}, (5, 8, 1)),
        ({"SLURM_NTASKS": "8", "SLURM_PROCID": "0"}, (0, 1, 0)),  # the batch script itself
        ({**SRUN, "SLURM_STEP_NUM_TASKS": "1", "SLURM_PROCID": "0"}, (0, 1, 0)),
    ],
)
def test_ranks(environment, expected):
    assert ranks_from(environment) == expected


def test_tasks_that_cannot_meet():
    with pytest.raises(UserError, match="MASTER_ADDR"):
        ranks_from(SRUN)


def test_devices(monkeypatch):
    assert choose_device("cpu") == torch.device("cpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert choose_device(None, 1) == torch.device("cuda", 1)
    assert choose_device("cuda:0", 1) == torch.device("cuda", 0)
    with pytest.raises(UserError, match="GPU 2 is asked for and this machine has 2"):
        choose_device(None, 2)
    for name in ("gpu", "meta"):
        with pytest.raises(UserError, match=f"DEVICE={name}"):
            choose_device(name)


def test_alone():
    world = World(0, 1, torch.device("cpu"))
    assert world.total(1.5, 2.0) == [1.5, 2.0]
    assert world.main
    assert torch.equal(world.all_gather(torch.arange(3)), torch.arange(3))


PRINT = "import os; print(os.environ['RANK'], os.environ['WORLD_SIZE'], os.environ['MASTER_PORT'])"


def test_the_launcher_numbers_its_ranks(capfd):
    assert launch(3, [sys.executable, "-c", PRINT]) == 0
    lines = sorted(line.split() for line in capfd.readouterr().out.splitlines())
    assert [line[:2] for line in lines] == [["0", "3"], ["1", "3"], ["2", "3"]]
    assert len({line[2] for line in lines}) == 1


def test_one_failure_ends_all(capfd):
    code = "import os, sys, time; sys.exit(7) if os.environ['RANK'] == '1' else time.sleep(60)"
    started = time.monotonic()
    assert launch(2, [sys.executable, "-c", code]) == 7
    assert time.monotonic() - started < 30
    assert "rank 1 failed with status 7" in capfd.readouterr().err


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_signals_are_handed_on(tmp_path, number):
    rank = (
        "import os, signal, time\n"
        "def stop(number, frame): open(os.environ['RANK'] + '.stopped', 'w').write(str(number)); os._exit(0)\n"
        "signal.signal(signal.SIGTERM, stop); signal.signal(signal.SIGUSR1, stop)\n"
        "open(os.environ['RANK'] + '.ready', 'w').close(); time.sleep(60)"
    )
    code = f"import sys; sys.path[:0] = {sys.path!r}; from training.launch import launch\n"
    code += f"sys.exit(launch(2, [sys.executable, '-c', {rank!r}]))"
    process = subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path)
    deadline = time.monotonic() + 60
    while len(list(tmp_path.glob("*.ready"))) < 2 and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(number)
    assert process.wait(timeout=60) == 0
    assert {path.read_text() for path in tmp_path.glob("*.stopped")} == {str(int(number))}
    assert len(list(tmp_path.glob("*.stopped"))) == 2


def test_the_others_are_asked_to_stop_before_they_are_killed(tmp_path):
    """A rank that is told has time to say goodbye; a kill would leave no note."""
    code = (
        "import os, pathlib, signal, sys, time\n"
        f"folder = pathlib.Path({str(tmp_path)!r})\n"
        "def asked(*_):\n"
        "    (folder / 'asked').touch()\n"
        "    sys.exit(0)\n"
        "if os.environ['RANK'] == '0':\n"
        "    signal.signal(signal.SIGTERM, asked)\n"
        "    (folder / 'ready').touch()\n"
        "    time.sleep(60)\n"
        "while not (folder / 'ready').exists():\n"
        "    time.sleep(0.01)\n"
        "sys.exit(3)\n"
    )
    assert launch(2, [sys.executable, "-c", code]) == 3
    assert (tmp_path / "asked").exists()

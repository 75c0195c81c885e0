"""Campaign on a GPU node: interrupted commands, records of steps, training for seconds."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from bench.node import models
from bench.node.models import MAIN, train
from bench.node.work import OutOfTime, TimeBudget
from data_specs.errors import UserError
from training import checkpoint

ROOT = Path(__file__).parents[2]


def test_step_runs_once_per_inputs(tmp_path):
    done = []
    budget = TimeBudget(tmp_path, 100)
    for inputs in ({"n": 1}, {"n": 1}, {"n": 2}):
        budget.run_step("step", inputs, lambda inputs=inputs: {"made": done.append(inputs)})
    assert done == [{"n": 1}, {"n": 2}]
    assert TimeBudget(tmp_path, 100).recorded("step", {"n": 2})["wall_seconds"] >= 0
    assert TimeBudget(tmp_path, 100).recorded("step", {"n": 1}) == {}


def test_failed_step_has_no_record_and_none_starts_without_time(tmp_path):
    budget = TimeBudget(tmp_path, 100)
    with pytest.raises(ZeroDivisionError):
        budget.run_step("step", {}, lambda: {"never": 1 / 0})
    assert budget.recorded("step") == {}
    budget.expire()
    with pytest.raises(OutOfTime):
        budget.run_step("step", {}, dict)
    with pytest.raises(OutOfTime):
        TimeBudget(tmp_path, 0).python("late", ["-c", "import time; time.sleep(60)"])


def test_the_last_line_of_a_command_is_returned_and_all_are_logged(tmp_path):
    budget = TimeBudget(tmp_path, 100)
    assert budget.python("talk", ["-c", "print('a'); print('b'); print('c', end='')"]) == "c"
    assert budget.python("talk", ["-c", "print('half\\rwhole')"]) == "whole"
    assert (tmp_path / "logs" / "talk.log").read_bytes() == b"a\nb\nchalf\rwhole\n"


def test_failed_command_is_reported_with_its_last_line(tmp_path):
    with pytest.raises(UserError, match=r"python -m pipeline dataset failed: --spec must be one of") as fault:
        TimeBudget(tmp_path, 100).python("clips", ["-m", "pipeline", "dataset", "--spec", "nowhere"])
    assert "logs/clips.log" in str(fault.value)


STUBBORN = """
import signal, subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(100)"])
signal.signal(signal.SIGTERM, lambda *_: (print("saved", flush=True), sys.exit(0)))
print(child.pid, flush=True)
time.sleep(100)
"""


def gone(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def wait_for(condition, seconds=20.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_end_of_the_budget_stops_a_command_and_its_children(tmp_path):
    budget = TimeBudget(tmp_path, 100)
    log = tmp_path / "logs" / "long.log"
    with pytest.raises(OutOfTime):
        budget.python("long", ["-c", STUBBORN], lambda: budget.expire() if log.stat().st_size else None)
    child, saved = log.read_text().split()
    assert saved == "saved"
    wait_for(lambda: gone(int(child)))


def test_command_dies_with_a_killed_script(tmp_path):
    script = (
        "from pathlib import Path; from bench.node.work import TimeBudget; "
        f"TimeBudget(Path({str(tmp_path)!r}), 99).python('long', ['-c', {STUBBORN!r}])"
    )
    log = tmp_path / "logs" / "long.log"
    process = subprocess.Popen([sys.executable, "-c", script], cwd=ROOT)
    wait_for(lambda: log.exists() and log.read_text().endswith("\n"))
    process.kill()
    process.wait(20)
    wait_for(lambda: log.read_text().endswith("saved\n"))
    os.kill(int(log.read_text().split()[0]), signal.SIGKILL)


# ---- training

SECONDS_A_STEP = 0.5


def save_run(run: Path, step: int) -> None:
    facts = {
        "step": step, "train_seconds": step * SECONDS_A_STEP,
        "config": {"training": {"batch": 4, "precision": "float32"}},
    }  # fmt: skip
    checkpoint.save(run, step, {"step": step}, {"w": torch.full((3,), float(step))}, facts, 1)
    line = {"step": step, "peak_memory_mb": 7.0, "loss": 1 / step, "wait_share": 0.5}
    (run / "log.jsonl").write_text(json.dumps(line) + "\n")


@pytest.fixture
def trainer(monkeypatch):
    """Stands in for `python -m training train`: saves every fourth step up to the limit or to the end of the budget."""
    started = []

    def python(self, name, arguments, watch):
        assert arguments[:3] == ["-m", "training", "train"]
        started.append(arguments)
        options = dict(zip(arguments[3::2], arguments[4::2], strict=True))
        limit = float(options["--set"].rpartition("max_train_seconds=")[2])
        run = Path(options["--run"])
        step = int(models.newest(run)[5:] or 0)
        while step * SECONDS_A_STEP < limit:
            step += 4
            save_run(run, step)
            watch()
            if not self.seconds_left():
                raise OutOfTime

    monkeypatch.setattr(TimeBudget, "python", python)
    return started


def training(budget, seconds, out):
    out.mkdir(exist_ok=True)
    return train(budget, MAIN, "c.toml", Path("data"), seconds, out, 1)


def test_model_trains_for_its_seconds_and_resumes_for_more(tmp_path, trainer):
    budget = TimeBudget(tmp_path / "work", 100)
    first = training(budget, 4.0, tmp_path / "out")
    assert (first["steps"], first["train_seconds"], first["steps_per_second"]) == (8, 4.0, 2.0)
    assert (first["clips_per_second"], first["peak_memory_mb"], first["wait_share"]) == (8.0, 7.0, 0.5)
    assert training(budget, 4.0, tmp_path / "out") == first
    assert len(trainer) == 1
    assert {"edm", "encodec", "c.toml"} <= set(trainer[0])
    assert training(budget, 6.0, tmp_path / "out")["steps"] == 12
    assert len(trainer) == 2


def test_a_model_is_exported_at_each_checkpoint(tmp_path, trainer, monkeypatch):
    budget, exported = TimeBudget(tmp_path / "work", 100), []
    write = models.write_half
    monkeypatch.setattr(models, "write_half", lambda *paths: (exported.append(paths[0].parent.name), write(*paths)))
    training(budget, 6.0, tmp_path / "out")
    assert list(dict.fromkeys(exported)) == ["step-00000004", "step-00000008", "step-00000012"]
    weights, facts = checkpoint.read_snapshot(tmp_path / "out" / "edm-encodec.safetensors")
    assert (weights["w"].dtype, weights["w"][0], facts["step"]) == (torch.float16, 12, 12)


def test_an_interrupted_run_is_exported_and_resumed(tmp_path, trainer):
    budget = TimeBudget(tmp_path / "work", 0)
    with pytest.raises(OutOfTime):
        training(budget, 50.0, tmp_path / "out")
    assert budget.recorded("progress-edm-encodec")["steps"] == 4
    assert training(TimeBudget(tmp_path / "work", 100), 4.0, tmp_path / "out")["steps"] == 8


def test_a_bare_machine_trains_on_from_the_weights(tmp_path, trainer):
    budget = TimeBudget(tmp_path / "work", 100)
    snapshot = models.snapshot_file(tmp_path / "work", MAIN)
    budget.record("carried-edm-encodec", {}, {"train_seconds": 40.0, "steps": 80})
    found = training(budget, 44.0, tmp_path / "out")
    assert (found["train_seconds"], found["steps"]) == (44.0, 88)  # of which 8 here
    assert trainer[0][-2:] == ["--init", str(snapshot)]
    assert "machine.max_train_seconds=4.0" in " ".join(trainer[0])

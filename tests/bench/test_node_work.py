"""Benchmark of a GPU node: interrupted commands, step records, training for equal seconds."""

import os
import signal
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import pytest

from bench.node import models
from bench.node.models import MODELS, Model
from bench.node.work import OutOfTime, TimeBudget
from data_specs.errors import UserError
from training.config import differing_key, load_config

ROOT = Path(__file__).parents[2]


def test_step_runs_once_per_inputs(tmp_path):
    done = []
    budget = TimeBudget(tmp_path, 100)
    for inputs in ({"n": 1}, {"n": 1}, {"n": 2}):
        budget.run_step("step", inputs, lambda inputs=inputs: {"made": done.append(inputs)})
    assert done == [{"n": 1}, {"n": 2}]
    assert TimeBudget(tmp_path, 100).done("step", {"n": 2})["wall_seconds"] >= 0
    assert TimeBudget(tmp_path, 100).done("step", {"n": 1}) is None


def test_failed_step_has_no_record_and_none_starts_without_time(tmp_path):
    budget = TimeBudget(tmp_path, 100)
    with pytest.raises(ZeroDivisionError):
        budget.run_step("step", {}, lambda: {"never": 1 / 0})
    assert budget.step_record("step") is None
    budget.expire()
    with pytest.raises(OutOfTime):
        budget.run_step("step", {}, dict)
    with pytest.raises(OutOfTime):
        TimeBudget(tmp_path, 0).python("late", ["-c", "import time; time.sleep(60)"])


def test_output_lines_are_timed_and_logged(tmp_path):
    budget = TimeBudget(tmp_path, 100)
    seen = budget.python("talk", ["-c", "import time; print('a'); time.sleep(0.6); print('b'); print('c', end='')"])
    assert [line for _, line in seen] == ["a", "b", "c"]
    assert 0.3 < seen[1][0] - seen[0][0] < 30
    assert budget.log("talk").read_text() == "a\nb\nc"
    assert [line for _, line in budget.python("talk", ["-c", "print('again')"])] == ["again"]


def test_failed_command_is_reported_with_its_last_line(tmp_path):
    with pytest.raises(UserError, match=r"python -m pipeline dataset failed: --spec must be one of") as fault:
        TimeBudget(tmp_path, 100).python("clips", ["-m", "pipeline", "dataset", "--spec", "nowhere"])
    assert "logs/clips.log" in str(fault.value)


STUBBORN = """
import signal, subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(100)"])
print(child.pid, flush=True)
signal.signal(signal.SIGTERM, lambda *_: (print("saved", flush=True), sys.exit(0)))
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


def test_deadline_stops_a_command_and_its_children(tmp_path):
    budget = TimeBudget(tmp_path, 2)
    with pytest.raises(OutOfTime):
        budget.python("long", ["-c", STUBBORN])
    child, saved = budget.log("long").read_text().split()
    assert saved == "saved"
    wait_for(lambda: gone(int(child)))


def test_command_that_did_enough_is_stopped(tmp_path):
    budget = TimeBudget(tmp_path, 100)
    log = budget.log("long")
    seen = budget.python("long", ["-c", STUBBORN], lambda: log.stat().st_size > 0)
    assert seen[-1][1] == "saved"


def test_command_dies_with_a_killed_script(tmp_path):
    script = (
        "from pathlib import Path; from bench.node.work import TimeBudget; "
        f"TimeBudget(Path({str(tmp_path)!r}), 99).python('long', ['-c', {STUBBORN!r}])"
    )
    log = tmp_path / "logs" / "long.log"
    process = subprocess.Popen([sys.executable, "-c", script], cwd=ROOT)
    wait_for(lambda: log.exists() and log.read_text().endswith("\n"))
    process.kill()
    process.wait()
    wait_for(lambda: log.read_text().endswith("saved\n"))
    os.kill(int(log.read_text().split()[0]), signal.SIGKILL)


# ---- training


@pytest.mark.parametrize("name", ["tiny", "paper", "best"])
@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_config_is_copied_with_other_logging(tmp_path, name, device):
    copy = models.write_config(name, device, tmp_path)
    model = MODELS[0]
    mine, theirs = (load_config(one, model.paradigm, model.format) for one in (str(copy), name))
    assert differing_key(mine.model_dump(mode="json"), theirs.model_dump(mode="json")) is None
    assert mine.model_dump(exclude={"logging"}) == theirs.model_dump(exclude={"logging"})
    assert (mine.logging.valid_every, mine.logging.listen_every) == (0, 0)


def test_toml_round_trip():
    value = {"a": 'quo"te\\', "b": [1.5, 5e-4, 1e9], "c": {"d": True, "e": {"f": -3}}, "g": []}
    text = "".join(f"{key} = {models.toml(held)}\n" for key, held in value.items())
    assert tomllib.loads(text) == value


# Trains for as long as it is let, 0.02 s a step that count as 0.05, and saves when asked to stop.
TRAINER = """
import hashlib, json, os, signal, sys, time
from pathlib import Path
import numpy
from safetensors.numpy import save
run = Path(sys.argv[sys.argv.index("--run") + 1])
saved = sorted(run.glob("checkpoints/step-*"))
step = int(saved[-1].name[5:]) if saved else 0
run.mkdir(parents=True, exist_ok=True)
(run / "config.json").write_text(json.dumps({{"training": {{"batch": 4}}}}))
log = run / "log.jsonl"
lines = [line for line in log.read_text().splitlines(True) if json.loads(line)["step"] <= step] if log.exists() else []
(run / "new").write_text("".join(lines))
os.replace(run / "new", log)
stop = []
signal.signal(signal.SIGTERM, lambda *_: stop.append(1))
while not stop:
    time.sleep(0.02)
    step += 1
    line = {{"step": step, "clips_per_second": 80.0, "peak_memory_mb": 7.0, "loss": 1 / step, "wait_share": 0.5}}
    with open(log, "a") as file:
        file.write(json.dumps(line) + "\\n")
    if step == {lose}:
        os._exit(7)
facts = {{"step": step, "train_seconds": step * 0.05, "config": {{"training": {{"batch": 4}}}}}}
folder = run / "checkpoints" / f"step-{{step:08d}}"
folder.mkdir(parents=True)
content = save({{"w": numpy.zeros(3)}}, {{"facts": json.dumps(facts)}})
(folder / "snapshot.safetensors").write_bytes(content)
held = {{"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}}
(folder / "checkpoint.json").write_text(json.dumps({{"files": {{"snapshot.safetensors": held}}}}))
"""


@pytest.fixture
def trainer(tmp_path, monkeypatch):
    """Stands in for `python -m training train`; given a step, it dies there without saving."""
    real, started = TimeBudget.python, []

    def use(lose: int = -1) -> list[list[str]]:
        (tmp_path / "trainer.py").write_text(TRAINER.format(lose=lose))
        return started

    def python(self, name, arguments, *rest):
        assert arguments[:3] == ["-m", "training", "train"]
        started.append(arguments)
        return real(self, name, [str(tmp_path / "trainer.py"), *arguments[3:]], *rest)

    monkeypatch.setattr(TimeBudget, "python", python)
    return use


def test_model_trains_for_its_seconds_and_resumes_for_more(tmp_path, trainer):
    started = trainer()
    budget, model = TimeBudget(tmp_path, 100), Model("edm", "encodec")
    run = tmp_path / "runs" / "edm-encodec"

    def train(seconds):
        models.train(budget, model, Path("c.toml"), Path("data"), seconds)
        return models.progress(run)

    first = train(2.0)
    assert 2.0 <= first["train_seconds"] < 20.0
    assert first["steps_per_second"] == 20.0
    assert (first["clips_per_second"], first["peak_memory_mb"], first["wait_share"]) == (80.0, 7.0, 0.5)
    assert train(2.0) == first
    assert len(started) == 1
    assert {"edm", "encodec", "c.toml"} <= set(started[0])
    longer = train(first["train_seconds"] + 1.0)
    assert longer["steps"] >= first["steps"] + 20
    assert len(started) == 2


def test_interrupted_run_keeps_saved_steps_only(tmp_path, trainer):
    trainer(lose=60)
    model, run = Model("edm", "cqt"), tmp_path / "runs" / "edm-cqt"
    with pytest.raises(UserError, match="failed"):
        models.train(TimeBudget(tmp_path, 100), model, Path("c"), Path("d"), 50.0)
    assert models.logged_seconds(run) == pytest.approx(3.0)  # but nothing was saved
    assert models.progress(run) == {}
    trainer()
    models.train(TimeBudget(tmp_path, 100), model, Path("c"), Path("d"), 2.9)
    steps = models.progress(run)["steps"]
    assert steps >= 58
    limit = models.logged_seconds(run) + 0.5

    class Short(TimeBudget):
        def seconds_left(self) -> float:
            return 100.0 if models.logged_seconds(run) < limit else 0.0

    with pytest.raises(OutOfTime):
        models.train(Short(tmp_path, 100), model, Path("c"), Path("d"), 1e6)
    assert models.progress(run)["steps"] >= steps + 10

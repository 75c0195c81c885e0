"""The batch template, run with substitutes for srun and scontrol: several tasks, a signal before the limit, requeue."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TEMPLATE = ROOT / "training" / "slurm" / "train.sbatch"

SRUN = """#!{python}
# Starts SLURM_NTASKS tasks with the variables that srun gives them and hands signals on, as srun does.
import os, signal, subprocess, sys
options = [a for a in sys.argv[1:] if a.startswith("--kill-on-bad-exit")]
assert options == ["--kill-on-bad-exit=1"], sys.argv
command, size = sys.argv[2:], int(os.environ["SLURM_NTASKS"])
def start(i):
    own = {{"SLURM_PROCID": str(i), "SLURM_LOCALID": str(i), "SLURM_STEP_NUM_TASKS": str(size)}}
    return subprocess.Popen(command, env={{**os.environ, **own}})
tasks = [start(i) for i in range(size)]
signal.signal(signal.SIGUSR1, lambda number, frame: [task.send_signal(number) for task in tasks])
sys.exit(max(task.wait() for task in tasks))
"""
SCONTROL = """#!{python}
import os, sys
if sys.argv[1:3] == ["show", "hostnames"]:
    print("127.0.0.1", "127.0.0.2", sep="\\n")
else:
    open(os.environ["REQUEUED"], "a").write(" ".join(sys.argv[1:]) + "\\n")
"""
CONFIG = """
[training]
precision = "float32"
steps = 400
batch = 4
seconds = 0.5
[logging]
log_every = 1
valid_every = 0
listen_every = 0
[network.encodec]
kind = "unet"
channels = 4
skip = 1
factors = [2]
"""


@pytest.fixture
def cluster(tmp_path):
    """The environment of a batch script on a simulated cluster."""
    for name, script in (("srun", SRUN), ("scontrol", SCONTROL)):
        path = tmp_path / "bin" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(script.format(python=sys.executable))
        path.chmod(0o755)
    return {
        **os.environ,
        "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}",
        "PYTHON": sys.executable,
        "PYTHONPATH": str(ROOT),
        "GLOO_SOCKET_IFNAME": "lo",
        "REQUEUED": str(tmp_path / "requeued"),
        "SLURM_JOB_ID": str(os.getpid()),
        "SLURM_JOB_NODELIST": "n[1-2]",
        "SLURM_NTASKS": "2",
        "SLURM_PROCID": "0",
        "SLURM_CPUS_PER_TASK": "1",
    }


def steps(run):
    lines = (run / "log.jsonl").read_text().splitlines() if (run / "log.jsonl").exists() else []
    return [json.loads(line)["step"] for line in lines[:-1]]


def test_a_job_is_stopped_and_requeued(cluster, encodec_data, tmp_path):
    config = tmp_path / "small.toml"
    config.write_text(CONFIG)
    run = tmp_path / "run"
    arguments = ["--paradigm", "edm", "--config", str(config), "--data", str(encodec_data[0]), "--run", str(run)]
    job = ["bash", str(TEMPLATE), *arguments, "--device", "cpu"]
    process = subprocess.Popen(job, env=cluster, cwd=ROOT)
    deadline = time.monotonic() + 100
    while len(steps(run)) < 5 and time.monotonic() < deadline:
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGUSR1)
    assert process.wait(timeout=60) == 0
    stopped = max(steps(run))
    assert 5 <= stopped < 399
    assert (tmp_path / "requeued").read_text() == f"requeue {os.getpid()}\n"
    assert (run / "checkpoints" / f"step-{stopped + 1:08d}").exists()


def test_a_failure_is_not_requeued(cluster, tmp_path):
    job = ["bash", str(TEMPLATE), "--paradigm", "nothing"]
    done = subprocess.run(
        job, env={**cluster, "SLURM_NTASKS": "1"}, cwd=ROOT, timeout=100, capture_output=True, text=True
    )
    assert done.returncode == 2
    assert "--paradigm nothing is not known" in done.stderr
    assert not (tmp_path / "requeued").exists()


def test_the_template_is_sound_shell():
    assert subprocess.run(["bash", "-n", str(TEMPLATE)]).returncode == 0
    if shutil.which("shellcheck"):
        assert subprocess.run(["shellcheck", "--severity=warning", str(TEMPLATE)]).returncode == 0
    head = TEMPLATE.read_text()
    assert "#SBATCH --signal=B:USR1@" in head
    assert "#SBATCH --requeue" in head

"""Slurm: settings, the scripts that are submitted, and both ways to build, with substitutes for Slurm's commands."""

import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from data_specs.errors import UserError
from pipeline.cli import main
from pipeline.cluster.cluster import Cluster
from pipeline.cluster.slurm import FOLDER, SlurmWorkers, load_settings
from tests.pipeline.made_songs import contents

DEFAULT = (FOLDER / "default.toml").read_text(encoding="utf-8")
ROOT = FOLDER.parents[2]


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        ('queue = ""', 'queu = ""', "queu is not a key; choose from "),
        ("jobs = 4", 'jobs = "four"', r"cpu\.jobs: must be a valid integer, got 'four'"),
        ("lifetime_minutes = 225", "lifetime_minutes = 239", "must be less than walltime_minutes"),
        ("jobs = 4", "jobs = 0", "cpu.jobs must be at least 1"),
        ("jobs = 4", "jobs =", "not valid TOML"),
    ],
)
def test_a_slip_in_the_settings_is_named_with_its_file(tmp_path, old, new, named):
    path = tmp_path / "site.toml"
    path.write_text(DEFAULT.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(UserError, match=named) as error:
        load_settings(str(path))
    assert str(path) in str(error.value)


def test_settings_that_are_not_there(tmp_path):
    with pytest.raises(
        UserError, match=r"CLUSTER= must be `slurm` or a readable file, got slrum; copy .*default\.toml"
    ):
        load_settings("slrum")


def test_a_dry_run_prints_the_scripts_and_submits_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    text = DEFAULT.replace('queue = ""', 'queue = "short"').replace('account = ""', 'account = "lab"')
    text = text.replace("[gpu]\njobs = 0", "[gpu]\njobs = 2")
    text = text.replace("\ndirectives = [] ", '\ndirectives = ["-C icelake"] ')
    Path("site.toml").write_text(text.replace("prologue = [] ", 'prologue = ["module load fluidsynth"] '))
    assert main(["dataset", "--cluster", "site.toml", "--dry-run"]) == 0
    cpu, gpu = re.split(r"(?=#!/usr/bin/env bash)", capsys.readouterr().out)[1:]
    for script in (cpu, gpu):
        for line in ("#SBATCH -p short", "#SBATCH -A lab", "#SBATCH -t 04:00:00", "#SBATCH -C icelake"):
            assert f"{line}\n" in script
        assert script.index("module load fluidsynth") < script.index("--lifetime 225m --lifetime-stagger 10m")
        assert "export OMP_NUM_THREADS=1" in script
        assert "--dashboard-address 127.0.0.1:0" in script
    assert "#SBATCH --cpus-per-task=16\n" in cpu
    assert "#SBATCH --mem=32G\n" in cpu
    assert "--nthreads 1" in cpu
    assert "--nworkers 16" in cpu
    assert "GPU" not in cpu
    assert "#SBATCH --gres=gpu:1\n" in gpu
    assert "--resources GPU=1" in gpu
    assert not list(Path().glob("PVT-*"))


def test_paths_with_spaces_are_one_word_each_and_workers_import_this_checkout(tmp_path, monkeypatch):
    """The job runs with a substitute for Python that notes its arguments, in a folder that holds another checkout."""
    (tmp_path / "other checkout" / "pipeline").mkdir(parents=True)
    (tmp_path / "other checkout" / "pipeline" / "__init__.py").write_text("raise SystemExit('the wrong checkout')")
    monkeypatch.chdir(tmp_path / "other checkout")
    command(tmp_path, "my python", f'printf "%s\\n" "$@" >"{tmp_path}/ran"; "{sys.executable}" -c "import pipeline"')
    monkeypatch.setattr("pipeline.cluster.slurm.sys.executable", str(tmp_path / "my python"))
    text = DEFAULT.replace('scratch = "/tmp"', 'scratch = "/my scratch"').replace('"slurm-logs"', '"my logs"')
    Path("site.toml").write_text(text)
    script = SlurmWorkers(load_settings("site.toml")).scripts()
    assert '#SBATCH --output="my logs/pvt-%J.out"\n' in script
    assert "#SBATCH -o" not in script
    done = subprocess.run(["bash", "-c", script], env={"PATH": os.environ["PATH"]}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    ran = (tmp_path / "ran").read_text().splitlines()
    assert ran[ran.index("--local-directory") + 1] == "/my scratch"


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (["--cluster", "slurm", "--workers", "4"], "--workers and --cluster exclude each other"),
        (["--scheduler", "tcp://127.0.0.1:1", "--tls-ca", "ca.pem"], "--tls-key must be given together"),
    ],
)
def test_options_that_do_not_go_together(options, named, capsys, tmp_path):
    assert main(["dataset", "--out", str(tmp_path), *options]) == 2
    assert named in capsys.readouterr().err


def test_force_is_refused_before_anything_is_submitted():
    script = ["bash", str(FOLDER / "submit.sh"), "2", "--spec", "sample", "--force"]
    done = subprocess.run(script, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert "--force would move aside what other tasks build" in done.stderr


def command(folder: Path, name: str, text: str) -> None:
    path = folder / name
    path.write_text(f"#!/bin/bash\n{text}")
    path.chmod(0o755)


def wait_for(condition) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_a_job_that_reaches_its_walltime_is_submitted_again(tmp_path, monkeypatch, short_lived):
    """sbatch runs the job here, in a process group of its own; killing that is what Slurm does at the walltime."""
    run = f"cp $1 {tmp_path}/job.sh; setsid bash {tmp_path}/job.sh >/dev/null 2>&1 & echo $! >{tmp_path}/last; echo $!"
    command(tmp_path, "sbatch", f"echo job >>{tmp_path}/jobs; {run}")
    command(tmp_path, "scancel", 'for job in "$@"; do kill -9 -- "-$job"; done 2>/dev/null; true')
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.chdir(tmp_path)
    with Cluster(SlurmWorkers(load_settings(str(short_lived)))) as cluster:
        (first,) = cluster.run_on_all(os.getpid)
        os.killpg(int((tmp_path / "last").read_text()), 9)
        wait_for(lambda: (tmp_path / "jobs").read_text().count("job") == 2)
        assert list(cluster.run(abs, [(-3,)], "number")) == [3]
        (second,) = cluster.run_on_all(os.getpid)
        assert second != first
    assert (tmp_path / "slurm-logs").is_dir()


@pytest.fixture
def short_lived(tmp_path):
    """One job of one worker on loopback."""
    text = DEFAULT.replace('interface = ""', 'interface = "lo"').replace("jobs = 4", "jobs = 1")
    path = tmp_path / "site.toml"
    path.write_text(text.replace("workers = 16", "workers = 1"))
    return path


# Runs what it is given at once, as each task of an array, and notes what was asked for.
SBATCH = """
number=$(cat "$STATE/number" 2>/dev/null || echo 100); echo $((number + 1)) >"$STATE/number"
array=
while [[ $1 == --* ]]; do
  echo "$number $1" >>"$STATE/asked"
  [[ $1 == --array=* ]] && array=${1#--array=0-}
  shift
done
if [[ -n $array ]]; then
  for task in $(seq "$array" -1 0); do
    SLURM_ARRAY_TASK_ID=$task SLURM_ARRAY_TASK_COUNT=$((array + 1)) bash "$@" >&2
  done
else
  bash "$@" >&2
fi
echo "$number;cluster"
"""


@pytest.fixture
def array_site(tmp_path, monkeypatch):
    """sbatch and srun on PATH; gives the folder where they note what they were asked."""
    command(tmp_path, "sbatch", SBATCH)
    command(tmp_path, "srun", 'exec "$@"')
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv("STATE", str(tmp_path))
    return tmp_path


def submit(*arguments: str, **environment: str) -> subprocess.CompletedProcess:
    script = ["bash", str(FOLDER / "submit.sh"), *arguments]
    return subprocess.run(script, cwd=ROOT, capture_output=True, text=True, env={**os.environ, **environment})


def test_an_array_plans_once_then_builds_shares_then_finishes(array_site):
    command(array_site, "interpreter", 'printf "%s|" "$@" >>"$STATE/ran"; echo >>"$STATE/ran"')
    done = submit("3", "--spec", "pvt", "--midi", "my songs", PYTHON=str(array_site / "interpreter"))
    assert done.returncode == 0, done.stderr
    assert done.stdout == "submitted: plan 100, 3 tasks 101, finish 102\n"
    base = "-m|pipeline|dataset|--spec|pvt|--midi|my songs|"
    shares = [f"{base}--shards|{number}/3|" for number in (2, 1, 0)]
    assert (array_site / "ran").read_text().splitlines() == [f"{base}--dry-run|", *shares, base]
    assert (array_site / "asked").read_text().splitlines() == [
        "100 --parsable",
        "101 --parsable",
        "101 --dependency=afterok:100",
        "101 --array=0-2",
        "102 --parsable",
        "102 --dependency=afterany:101",
    ]


def test_an_array_needs_a_number_of_shares(array_site):
    done = submit("--spec", "pvt")
    assert done.returncode == 2
    assert done.stderr.startswith("error: the first argument must be the number")
    assert not (array_site / "asked").exists()


@pytest.mark.slow
def test_an_array_gives_the_bytes_of_one_run(array_site, tmp_path):
    options = ["--format", "audio", "--clips", "200:40", "--workers", "2"]
    done = submit("3", *options, "--out", str(tmp_path / "array"), PYTHON=sys.executable)
    assert done.returncode == 0, done.stderr
    assert main(["dataset", *options, "--out", str(tmp_path / "one")]) == 0
    assert contents(tmp_path / "array") == contents(tmp_path / "one")


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.s*")), ids=lambda path: path.name)
def test_templates_are_valid_shell(path):
    assert shutil.which("bash")
    assert subprocess.run(["bash", "-n", path]).returncode == 0

"""Campaign on a GPU node: files that are handed back, outcomes of a call, and complete rehearsals."""

import itertools
import json
import os
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import pytest
import torch

from bench.node import __main__ as command
from bench.node import artifacts, campaign, probe
from bench.node.campaign import Campaign
from bench.node.models import MODELS, snapshot_file
from bench.node.work import OutOfTime, TimeBudget
from data_specs.errors import UserError
from tests.training.conftest import write_dataset
from training import checkpoint
from training import cli as training_command

ROOT = Path(__file__).parents[2]

# ---- what is handed back


def row(name: str) -> dict:
    paradigm, format_name = name.split("-")
    return {
        "run": name, "paradigm": paradigm, "format": format_name, "label": format_name, "batch": 8, "clips": 80,
        "parameters": 10**6, "training_seconds": 9.0, "steps": 10, "fad": {"pvt-net": {"train": {"value": 12.5}}},
        "adherence": {"chroma": 0.5}, "anchors": {"ceiling": {"chroma": 0.97}, "floor": {"chroma": 0.08}},
        "ceiling": {"fad": {}}, "samples": {"clips": 160, "guidance": "2"}, **TRAINED,
    }  # fmt: skip


TRAINED = {"steps": 10, "train_seconds": 9.0, "steps_per_second": 4.0, "utilisation": 0.2, "sampler_steps": 18}


@pytest.fixture
def finished(tmp_path):
    """A budget whose folder holds something of everything."""
    budget = TimeBudget(tmp_path / "work", 100)
    rates = {"bf16_tflops": 10.0, "float32_tflops": 1.0, "copy_gb_per_second": 5.0}
    budget.record("machine", {}, {"machine": "a GPU", "versions": "torch", **rates})
    budget.record("data-audio", {}, {"format": "audio", "clips": 90, "clips_per_second": 41.0})
    for model in MODELS:
        budget.record(f"progress-{model.name}", {}, TRAINED)
        budget.record(f"compare-{model.name}", {}, row(model.name))
        facts = {"step": 10, "train_seconds": 9.0}
        checkpoint.write_snapshot(snapshot_file(budget.work, model), {"w": torch.randn(1000).half()}, facts)
    budget.record("main", {}, {"rows": [{**row("edm-encodec"), "train_seconds": 600.0}]})
    (budget.work / "page.html").write_text("<p>page")
    (budget.work / "logs").mkdir()
    (budget.work / "logs" / "data.log").write_text("x" * 300_000 + "the end\n")
    return budget


def test_a_call_hands_back_at_most_eight_files(tmp_path, finished):
    out = tmp_path / "out"
    artifacts.write_artifacts(finished, "Everything is done.", out)
    files = {path.name for path in out.iterdir()}
    assert files == {"summary.md", "results.tar.gz", "page.html", *(f"{model.name}.safetensors" for model in MODELS)}
    text = (out / "summary.md").read_text()
    for part in ("# a GPU", "41.0", "12.50", "real clips", "0.970", "600.0 s"):
        assert part in text
    assert "| 20.0% |" in text
    assert "Too large" not in text
    with tarfile.open(out / "results.tar.gz") as archive:
        log = archive.extractfile("logs/data.log").read()
        assert json.load(archive.extractfile("records/main.json"))["found"]["rows"][0]["steps"] == 10
    assert len(log) == artifacts.LOG_BYTES
    assert log.endswith(b"the end\n")


def test_what_is_too_large_is_left_out_and_named(tmp_path, finished, monkeypatch):
    out = tmp_path / "out"
    artifacts.write_artifacts(finished, "", out)
    size = (out / "edm-encodec.safetensors").stat().st_size
    (finished.work / "page.html").write_bytes(b"x" * 70_000)
    monkeypatch.setattr(artifacts, "MOST_BYTES", 60_000)
    monkeypatch.setattr(artifacts, "TOTAL_BYTES", (out / "results.tar.gz").stat().st_size + size)
    artifacts.write_artifacts(finished, "", out)
    assert {path.name for path in out.iterdir()} == {"summary.md", "results.tar.gz", "edm-encodec.safetensors"}
    named = (out / "summary.md").read_text().partition("Too large")[2]
    for name in ("logs/data.log of results.tar.gz", "page.html", "ddpm-encodec.safetensors"):
        assert name in named


def test_a_bare_machine_resumes_from_what_was_handed_back(tmp_path, finished):
    out = tmp_path / "out"
    artifacts.write_artifacts(finished, "", out)
    (out / "edm-cqt.safetensors").unlink()  # only some are carried along
    bare = TimeBudget(tmp_path / "bare", 100)
    artifacts.restore(bare, out)
    assert bare.recorded("compare-edm-cqt") == finished.recorded("compare-edm-cqt")
    assert bare.recorded("carried-edm-encodec")["train_seconds"] == 9.0
    assert bare.recorded("carried-edm-cqt") == {}
    held = snapshot_file(bare.work, MODELS[0]).read_bytes()
    assert held == snapshot_file(finished.work, MODELS[0]).read_bytes()
    bare.record("main", {}, {"newer": 1})
    artifacts.restore(bare, out)  # a folder that holds a state keeps it
    assert bare.recorded("main") == {"newer": 1}
    with pytest.raises(UserError, match=r"--state must be a folder .* results.tar.gz"):
        artifacts.restore(TimeBudget(tmp_path / "other", 100), tmp_path)


# ---- the command


def test_missing_packages_are_named(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(command, "RENDERING", ("no_such_midi",))
    assert command.main(["--out", str(tmp_path / "out")]) == 2
    assert capsys.readouterr().err.startswith("error: the modules no_such_midi must be importable; ")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "word"),
    [
        (["--minutes", "soon"], "--minutes must be"),
        (["--minutes", "0"], "got '0'"),
        (["--clips", "many"], "many"),
        (["--fewer", "many"], "many"),
        (["--scored", "1"], "--scored must be"),
        (["--models", "edm-disc"], "got edm-disc"),
        (["--sampler-steps", "ddpm=3"], "got ddpm"),
        (["--sampler-steps", "edm-cqt=2.5"], "--sampler-steps must be"),
        (["--main-seconds", "-3"], "--main-seconds must be"),
        (["--config", "nowhere"], "nowhere"),
    ],
)
def test_bad_options_are_named(tmp_path, capsys, options, word):
    assert command.main(["--out", str(tmp_path / "out"), "--data", str(tmp_path), *options]) == 2
    assert word in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("raised", "status", "word"),
    [(None, 0, "Everything is done"), (OutOfTime(), 3, "resume"), (UserError("no melody"), 2, "error: no melody")],
)
def test_every_call_hands_back_its_outcome(tmp_path, monkeypatch, raised, status, word):
    def fake(self):
        if raised:
            raise raised

    monkeypatch.setattr(Campaign, "run", fake)
    before = signal.getsignal(signal.SIGTERM)
    assert command.main(["--out", str(tmp_path / "out"), "--data", str(tmp_path)]) == status
    assert word in (tmp_path / "out" / "summary.md").read_text()
    assert signal.getsignal(signal.SIGTERM) is before


def test_two_calls_do_not_share_a_folder(tmp_path, monkeypatch, capsys):
    options = ["--out", str(tmp_path / "out"), "--data", str(tmp_path)]
    statuses = []
    monkeypatch.setattr(Campaign, "run", lambda self: statuses.append(command.main(options)))
    assert command.main(options) == 0
    assert statuses == [2]
    assert "is in use by process" in capsys.readouterr().err


def test_a_signal_ends_the_budget(tmp_path, monkeypatch):
    left = []

    def fake(self):
        os.kill(os.getpid(), signal.SIGTERM)
        left.append(self.budget.seconds_left())

    monkeypatch.setattr(Campaign, "run", fake)
    command.main(["--out", str(tmp_path / "out"), "--data", str(tmp_path)])
    assert left == [0]


def test_help_needs_no_heavy_import():
    code = (
        "import sys; sys.argv = ['x', '--help']\n"
        "try: import runpy; runpy.run_module('bench.node', run_name='__main__')\n"
        "except SystemExit: pass\n"
        "print([name for name in ('torch', 'dask', 'pydantic', 'numpy') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True, timeout=60
    )
    assert done.stdout.splitlines()[-1] == "[]"


def test_datasets_are_built_where_they_are_missing(tmp_path, monkeypatch):
    started = []

    def python(self, name, arguments, watch=None):
        started.append(arguments)
        options = dict(itertools.pairwise(arguments))
        folder = Path(options["--out"])
        if name == "data":
            folder = folder / f"PVT-{options['--format']}"
            assert Path(options["--midi"]).is_dir()
        folder.mkdir(parents=True)
        (folder / "dataset.json").write_text('{"splits": {"train": {"clips": 3}, "valid": {"clips": 2}}}')

    monkeypatch.setattr(TimeBudget, "python", python)
    monkeypatch.setattr(Campaign, "run", lambda self: calls.append(self))
    calls = []
    command.main(["--out", str(tmp_path / "out"), "--clips", "4000:50", "--fewer", "30:20"])
    for name in ("encodec", "audio", "encodec"):
        assert calls[0].dataset(name) == tmp_path / "out-work" / "data"
    assert [arguments[1:3] for arguments in started] == [["bench.corpus", "tunes"], *2 * [["pipeline", "dataset"]]]
    assert started[0][3] == "100"
    assert "--train-only" in started[0]
    assert {"4000:50", "expressive"} <= set(started[1])
    assert "30:20" in started[2]
    assert calls[0].budget.recorded("data-audio")["clips"] == 5


CONFIG = """
[training]
steps = 60
batch = 4
seconds = 1
precision = "float32"
[logging]
log_every = 1
[network.encodec]
kind = "unet"
channels = 8
skip = 1
factors = [2, 2]
embedding = 16
controls = { local = { channels = 8 } }
"""


def test_a_rehearsal_in_one_process_trains_scores_and_resumes(tmp_path, monkeypatch, capsys):
    """Probes, training and scores on synthetic data; a second call on a bare machine trains the main model on."""
    for name, clips in (("encodec", 8), ("audio", 4)):
        write_dataset(tmp_path / "data", name, {"train": clips, "valid": 4})
    (tmp_path / "c.toml").write_text(CONFIG)
    commands = {"training": training_command.main, "bench.node.probe": probe.main}
    started = []

    def python(self, name, arguments, watch=None):
        started.append(name)
        if name == "page":
            (self.work / "page.html").write_text("a page")
            return ""
        monkeypatch.setattr(sys, "argv", ["x", *arguments[2:]])
        capsys.readouterr()
        status = commands[arguments[1]](*([arguments[2:]] if name != "probe" else []))
        out, err = capsys.readouterr()
        assert not status, err
        return out.splitlines()[-1]

    monkeypatch.setattr(TimeBudget, "python", python)
    monkeypatch.setattr(probe, "SIDES", {"cpu": 64})
    monkeypatch.setattr(campaign, "GUIDANCE", (1.5,))
    steps = ["--models", "edm-encodec", "--sampler-steps", "edm-encodec=2"]
    options = ["--data", str(tmp_path / "data"), "--config", str(tmp_path / "c.toml"), "--scored", "2", *steps]
    options += ["--equal-seconds", "1", "--device", "cpu"]
    assert command.main(["--out", str(tmp_path / "out"), "--main-seconds", "2", *options]) == 0
    rehearsed = ["train-edm-encodec", "evaluate"]
    assert started == ["probe", "train-edm-encodec", "probe", "evaluate", *rehearsed, "page"]
    text = (tmp_path / "out" / "summary.md").read_text()
    assert "| edm-encodec | 2 | 1.5 | 2 |" in text
    assert (tmp_path / "out" / "page.html").read_text() == "a page"
    started.clear()
    bare = ["--out", str(tmp_path / "next"), "--state", str(tmp_path / "out"), "--main-seconds", "3", *options]
    assert command.main(bare) == 0
    assert started == [*rehearsed, "page"]
    text = (tmp_path / "next" / "summary.md").read_text()
    assert "## Models at equal seconds" in text
    (found,) = TimeBudget(tmp_path / "next-work", 1).recorded("main")["rows"]
    assert 2.9 < found["train_seconds"] < 30
    rate = TimeBudget(tmp_path / "next-work", 1).recorded("machine")["float32_tflops"]
    assert found["utilisation"] * rate * 1e3 == pytest.approx(found["step_gflop"] * found["steps_per_second"])


@pytest.mark.slow
def test_complete_run_in_two_calls_and_a_kill(tmp_path):
    """Real clips, training and scores of all models; the first call is killed, the last finds nothing to do."""
    out, work = tmp_path / "out", tmp_path / "out-work"
    steps = ",".join(f"{model.name}=2" for model in MODELS)
    options = [
        "--clips",
        "32:16",
        "--fewer",
        "32:16",
        "--config",
        "tiny",
        "--equal-seconds",
        "3",
        "--main-seconds",
        "5",
    ]
    options += ["--save-seconds", "1", "--scored", "2", "--sampler-steps", steps, "--device", "cpu"]
    start = [sys.executable, "-m", "bench.node", "--out", str(out), "--minutes", "30", *options]
    first = subprocess.Popen(start, cwd=ROOT)
    log, deadline = work / "runs" / "edm-encodec" / "log.jsonl", time.monotonic() + 600
    while first.poll() is None and time.monotonic() < deadline and not (log.exists() and log.stat().st_size > 300):
        time.sleep(0.1)
    first.kill()
    first.wait(60)
    subprocess.run(start, cwd=ROOT, check=True, timeout=1800)
    assert len([path for path in out.iterdir() if path.is_file()]) <= 8
    text = (out / "summary.md").read_text()
    assert all(text.count(f"| {model.name} |") >= 2 for model in MODELS)
    finished = when_written(work)
    subprocess.run(start, cwd=ROOT, check=True, timeout=600)
    assert when_written(work) == finished  # nothing is trained or scored again


def when_written(folder):
    """Times of models, clips and their scores."""
    kept = (path for path in folder.rglob("*") if path.suffix in (".pt", ".safetensors", ".csv", ".tfrecord"))
    return {path.relative_to(folder): path.stat().st_mtime_ns for path in kept}

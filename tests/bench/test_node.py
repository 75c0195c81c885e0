"""Benchmark of a GPU node: number of clips, artifacts, outcomes of a call, and one complete run."""

import json
import os
import signal
import subprocess
import sys
import tarfile
import time
import zipfile
from pathlib import Path

import pytest
import torch

from bench.node import __main__ as command
from bench.node import artifacts, clips, models, requirements, stages
from bench.node.models import MODELS
from bench.node.work import OutOfTime, TimeBudget
from data_specs.errors import UserError
from data_specs.formats import FORMATS
from data_specs.spec import ClipCounts
from training import checkpoint

ROOT = Path(__file__).parents[2]

# ---- clips

PROBE = {
    "audio": {"clips": 100, "built": 100, "seconds": 1.0, "bytes": 100 * 800},
    "cqt": {"clips": 100, "built": 100, "seconds": 6.0, "bytes": 100 * 3400},
    "encodec": {"clips": 100, "built": 100, "seconds": 2.0, "bytes": 100 * 320},
    "disc": {"clips": 100, "built": 100, "seconds": 1.0, "bytes": 100 * 30},
}
MANY = ClipCounts(train=10**6, valid=10**5)
STANDING = ClipCounts(train=80, valid=16)


def cost(size, figure, of):
    more = {name: clips.train + clips.valid - 96 for name, clips in size.items()}
    return sum(more[name] * PROBE[name][figure] / PROBE[name][of] for name in FORMATS)


def test_clips_fill_the_time():
    size = clips.full_size(PROBE, STANDING, None, 100.0, 10**9, MANY)
    assert 0.97 * 85 < cost(size, "seconds", "built") <= 85  # a share of the time is kept back
    assert size["audio"] == size["cqt"] == size["disc"]
    assert size["cqt"].valid == size["cqt"].train // 8


def test_the_disk_bounds_clips():
    size = clips.full_size(PROBE, STANDING, None, 1e6, 10_000_000, MANY)
    assert 0.97 * 6_000_000 < cost(size, "bytes", "clips") <= 6_000_000


def test_audio_is_only_a_reference():
    size = clips.full_size(PROBE, STANDING, None, 5000.0, 10**12, MANY)
    assert size["audio"].train == clips.MOST_AUDIO < size["cqt"].train
    assert 0.97 * 4250 < cost(size, "seconds", "built") <= 4250


def test_melodies_and_option_bound_clips_and_nothing_shrinks():
    few = ClipCounts(train=500, valid=30)
    assert clips.full_size(PROBE, STANDING, None, 1e6, 10**12, few)["cqt"] == few
    assert clips.full_size(PROBE, STANDING, ClipCounts(train=90, valid=20), 1e6, 10**12, MANY)["disc"].train == 90
    assert clips.full_size(PROBE, STANDING, None, 0.0, 10**12, MANY)["disc"] == ClipCounts(train=80, valid=16)
    assert clips.probe_size(clips.RenderOptions(most=ClipCounts(train=30, valid=4))) == ClipCounts(train=30, valid=4)


def test_missing_rate_is_estimated():
    lost = {**PROBE, "cqt": {"clips": 100, "built": 0, "bytes": 100 * 3400}}
    size = clips.full_size(lost, STANDING, None, 100.0, 10**9, MANY)
    assert size["cqt"].train > STANDING.train
    assert clips.seconds_a_clip("cqt", lost["cqt"]) > 0


def test_a_build_is_timed_from_the_line_before_it():
    said = ["plan", "  audio 80", "/d/PVT-audio: 80 train", "  left out: 3", "/d/PVT-cqt: 80 train"]
    seen = list(zip([0.0, 1.0, 3.0, 3.5, 8.5], said, strict=True))
    assert clips.finished_after(seen, Path("/d/PVT-audio")) == 2.0
    assert clips.finished_after(seen, Path("/d/PVT-cqt")) == 5.0
    assert clips.finished_after(seen, Path("/d/PVT-disc")) is None


def test_existing_datasets_must_include_all_formats(tmp_path):
    for name in ("audio", "cqt"):
        folder = tmp_path / f"PVT-{name}"
        folder.mkdir()
        (folder / "dataset.json").write_text('{"splits": {"train": {"clips": 3}, "valid": {"clips": 2}}}')
    with pytest.raises(UserError, match="lacks PVT-encodec, PVT-disc"):
        clips.ready(tmp_path)


# ---- handing over


def row(name: str) -> dict:
    paradigm, format_name = name.split("-")
    return {
        "run": name, "paradigm": paradigm, "format": format_name, "label": format_name, "batch": 8, "clips": 80,
        "parameters": 10**6, "training_seconds": 9.0, "steps": 10, "fad": {"pvt-net": {"train": {"value": 12.5}}},
        "adherence": {"chroma": 0.5}, "anchors": {"ceiling": {"chroma": 0.97}, "floor": {"chroma": 0.08}},
    }  # fmt: skip


@pytest.fixture
def finished(tmp_path):
    """A work folder with something of everything, and its summary."""
    work = tmp_path / "work"
    for model in MODELS:
        facts = {"step": 10, "train_seconds": 9.0, "config": {"training": {"batch": 8}}}
        checkpoint.save(work / "runs" / model.name, 10, {"step": 10}, {"w": torch.randn(3, 1000)}, facts, 1)
        (work / "runs" / model.name / "log.jsonl").write_text("{}\n")
        for name in ("0-00.wav", "0-00.png", "controls.json"):
            path = work / "samples" / model.name / "swell" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(os.urandom(1000))
    (work / "page.html").write_text("<p>page")
    (work / "logs").mkdir()
    (work / "logs" / "clips.log").write_text("x" * 300_000 + "the end\n")
    summary = {
        "machine": "a GPU", "versions": "torch", "state": "Everything is done.", "config": "tiny",
        "seconds_by_call": [9.0, 8.0],
        "clips": {"audio": {"clips": 90, "built": 80, "clips_per_second": 41.0}},
        "training": {m.name: {"steps": 10, "train_seconds": 9.0, "steps_per_second": 1.11} for m in MODELS},
        "evaluation": {m.name: {"row": row(m.name), "wall_seconds": 1.0} for m in MODELS},
    }  # fmt: skip
    return work, summary


def test_artifacts_are_at_most_eight_complete_files(tmp_path, finished):
    work, summary = finished
    out = tmp_path / "out"
    assert artifacts.write_artifacts(work, out, summary, MODELS) == []
    files = sorted(path.name for path in out.iterdir())
    assert files == sorted(
        ["summary.md", "results.tar.gz", "page.html", "listen.zip", *(f"{m.name}.safetensors" for m in MODELS)]
    )
    text = (out / "summary.md").read_text()
    for part in ("a GPU", "41.0", "| edm-cqt | 9.0 s | 10 | 1.11 |", "12.50", "real clips", "0.970"):
        assert part in text
    with tarfile.open(out / "results.tar.gz") as archive:
        names = archive.getnames()
        assert json.load(archive.extractfile("summary.json"))["training"]["edm-cqt"]["steps"] == 10
        log = archive.extractfile("logs/clips.log").read()
    assert {"evaluation.md", "runs/ddpm-encodec/log.jsonl"} <= set(names)
    assert len(log) == artifacts.LOG_BYTES
    assert log.endswith(b"the end\n")
    assert len(zipfile.ZipFile(out / "listen.zip").namelist()) == 12
    weights, facts = checkpoint.read_snapshot(out / "edm-cqt.safetensors")
    assert (weights["w"].dtype, facts["step"]) == (torch.float16, 10)


def test_oversized_artifacts_are_omitted_and_named(tmp_path, finished, monkeypatch):
    monkeypatch.setattr(artifacts, "MOST_BYTES", 3000)
    monkeypatch.setattr(artifacts, "SUMMARY_BYTES", 1000)
    work, summary = finished
    (work / "runs" / "edm-cqt" / "log.jsonl").write_text("{}\n" * 1000)
    (work / "page.html").write_bytes(b"x" * 4000)
    out = tmp_path / "out"
    left = artifacts.write_artifacts(work, out, summary, MODELS)
    assert sorted(path.name for path in out.iterdir()) == ["listen.zip", "results.tar.gz", "summary.md"]
    assert [sentence.split()[0] for sentence in left] == [
        *(f"{m.name}.safetensors" for m in MODELS), "page.html", "9", "runs/edm-cqt/log.jsonl,",
    ]  # fmt: skip
    assert left[-1].endswith(f"logs/clips.log do not fit into results.tar.gz; they are in {work}")
    with tarfile.open(out / "results.tar.gz") as archive:
        assert set(archive.getnames()) == {
            "summary.json", "evaluation.md", *(f"runs/{m.name}/log.jsonl" for m in MODELS if m.name != "edm-cqt"),
        }  # fmt: skip
    assert left[-1] in (out / "summary.md").read_text()
    assert all(name.endswith(("wav", "json")) for name in zipfile.ZipFile(out / "listen.zip").namelist())


def test_empty_call_writes_a_summary(tmp_path):
    summary = {
        "machine": "unknown", "versions": "unknown", "state": "The time is up.", "config": "tiny",
        "seconds_by_call": [1.0], "clips": {}, "training": {}, "evaluation": {},
    }  # fmt: skip
    assert artifacts.write_artifacts(tmp_path / "work", tmp_path / "out", summary, MODELS) == []
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["results.tar.gz", "summary.md"]


# ---- the command


def test_missing_packages_are_named(monkeypatch, capsys, tmp_path):
    monkeypatch.setitem(requirements.RENDERING, "no_such_midi", "")
    monkeypatch.setitem(requirements.RENDERING, "no_such_dask", "no-such-dask")
    assert command.main(["--out", str(tmp_path / "out")]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: no_such_midi and no-such-dask are missing here, and rendering needs that; ")
    assert "--data FOLDER" in said
    assert said.count("\n") == 1
    requirements.check(render=False)
    monkeypatch.setitem(requirements.TRAINING, "no_such_torch", "")
    with pytest.raises(UserError, match=r"^no_such_torch is missing here; "):
        requirements.check(render=False)


@pytest.mark.parametrize(
    ("options", "word"),
    [
        (["--minutes", "soon"], "--minutes must be"),
        (["--minutes", "0"], "got 0"),
        (["--share", "1:2"], "got 1:2"),
        (["--share", "1:2:0"], "got 1:2:0"),
        (["--clips", "many"], "many"),
        (["--judge", "1"], "--judge must be"),
        (["--sampler-steps", "2.5"], "--sampler-steps must be"),
        (["--train-seconds", "-3"], "--train-seconds must be"),
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
def test_every_call_writes_artifacts_and_its_outcome(tmp_path, monkeypatch, raised, status, word):
    def fake_stages(budget, options, found):
        found["machine"] = "a GPU"
        if raised:
            raise raised

    monkeypatch.setattr(stages, "stages", fake_stages)
    before = signal.getsignal(signal.SIGTERM)
    for _ in range(2):
        assert command.main(["--out", str(tmp_path), "--data", str(tmp_path)]) == status
    text = (tmp_path / "summary.md").read_text()
    assert text.startswith("# a GPU")
    assert word in text
    assert json.loads((tmp_path.with_name(f"{tmp_path.name}-work") / "marks" / "calls.json").read_text())["seconds"][1:]
    assert signal.getsignal(signal.SIGTERM) is before


def test_two_calls_do_not_share_a_folder(tmp_path, monkeypatch, capsys):
    statuses = []
    monkeypatch.setattr(
        stages,
        "stages",
        lambda budget, options, found: statuses.append(command.main(["--out", str(tmp_path), "--data", str(tmp_path)])),
    )
    assert command.main(["--out", str(tmp_path), "--data", str(tmp_path)]) == 0
    assert statuses == [2]
    assert "is in use by process" in capsys.readouterr().err


def test_signal_expires_the_budget(tmp_path):
    budget = TimeBudget(tmp_path, 100)
    command.expire_on_signal(budget)(signal.SIGTERM, None)
    assert budget.seconds_left() == 0


def test_help_needs_no_heavy_import():
    code = (
        "import sys; sys.argv = ['x', '--help']\n"
        "try: import runpy; runpy.run_module('bench.node', run_name='__main__')\n"
        "except SystemExit: pass\n"
        "print([name for name in ('torch', 'dask', 'pydantic', 'numpy') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.slow
def test_complete_run_in_two_calls_and_a_kill(tmp_path):
    """Real clips, training, samples and scores; the first call is killed, the last finds nothing to do."""
    options = ["--clips", "32:16", "--train-seconds", "5", "--judge", "2", "--sampler-steps", "2"]
    start = [sys.executable, "-m", "bench.node", "--out", str(tmp_path), "--minutes", "20", *options]
    first = subprocess.Popen(start, cwd=ROOT)
    work = tmp_path.with_name(f"{tmp_path.name}-work")
    log = work / "runs" / "edm-encodec" / "log.jsonl"
    while first.poll() is None and not (log.exists() and log.stat().st_size > 300):
        time.sleep(0.1)
    first.kill()
    first.wait()
    subprocess.run(start, cwd=ROOT, check=True)
    files = sorted(path.name for path in tmp_path.iterdir() if path.is_file())
    assert len(files) == 8
    text = (tmp_path / "summary.md").read_text()
    seconds = [models.progress(work / "runs" / model.name)["train_seconds"] for model in MODELS]
    assert all(one > 4.9 for one in seconds)
    assert all(f"| {model.name} | {model.paradigm} |" in text for model in MODELS)
    finished = when_written(work)
    subprocess.run(start, cwd=ROOT, check=True)
    assert when_written(work) == finished  # nothing is trained, sampled or scored again


def when_written(folder):
    """Times of models, clips and their scores."""
    kept = (path for path in folder.rglob("*") if path.suffix in (".pt", ".safetensors", ".wav", ".npz", ".tfrecord"))
    return {path.relative_to(folder): path.stat().st_mtime_ns for path in kept}

"""The training loop: a run that is stopped, killed or moved between ranks equals one that was not."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from data_specs.errors import UserError
from tests.training.processes import alive, rank_processes
from training import trainer
from training.checkpoint import load_newest, save
from training.config import load_config
from training.data.dataset import Dataset
from training.diffusion import EDM
from training.diffusion_task import DiffusionTask
from training.log import read_log
from training.metadata import DatasetMetadata
from training.model import build_model, load_model
from training.networks import parameter_count
from training.trainer import train

ROOT = Path(__file__).parents[2]
CONFIG = """
[training]
precision = "float32"
steps = 60
batch = 4
seconds = 1
learning_rate = 3e-3
warmup_steps = 10
decay_start = 40
span_dropout = 0.2
max_skipped = 3
[training.disc]
seconds = 0.2
[logging]
log_every = 1
valid_every = 30
valid_clips = 4
listen_every = 0
checkpoint_every = 20
[diffusion.discdpm]
steps = 3
times = "importance"
[network.encodec]
kind = "unet"
channels = 8
skip = 1
factors = [2, 2]
embedding = 16
controls = { local = { channels = 8 } }
[network.disc]
kind = "unet"
channels = 8
factors = [2, 2]
embedding = 16
code_embedding = 4
controls = { local = { channels = 8 } }
"""


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Threads split sums, so bits are only compared between equal numbers of them."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def config_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("config") / "small.toml"
    path.write_text(CONFIG)
    return path


@pytest.fixture(scope="module")
def disc_data(make_dataset, tmp_path_factory):
    return make_dataset(tmp_path_factory.mktemp("data"), "disc", {"train": 13, "valid": 4})[0]


@pytest.fixture(scope="module")
def whole(encodec_data, config_file, tmp_path_factory):
    """The folder of an EDM run that was never interrupted."""
    run = tmp_path_factory.mktemp("run") / "whole"
    assert train(run, encodec_data[0], load_config(str(config_file), "edm")) == ""
    return run


def losses(run, key="loss"):
    return {line["step"]: line[key] for line in read_log(run) if key in line}


def weights(run):
    return load_model(run).network.state_dict()


def same_weights(a, b):
    return all(torch.equal(value, b[name]) for name, value in a.items()) and a.keys() == b.keys()


def at_step(monkeypatch, step, action):
    """Call `action` in the middle of `step`, once."""
    backward = trainer.backward

    def with_action(task, objective, batch, world):
        if int(batch.positions[0]) // task.config.training.batch + 1 == step:
            monkeypatch.setattr(trainer, "backward", backward)
            action()
        return backward(task, objective, batch, world)

    monkeypatch.setattr(trainer, "backward", with_action)


def command(config_file, data, run, *more):
    options = ["--paradigm", "edm", "--config", str(config_file), "--data", str(data), "--run", str(run), *more]
    return [sys.executable, "-m", "training", "train", *options, "--device", "cpu"]


def environment():
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}


def wait_for_step(run, step, process):
    deadline = time.monotonic() + 100
    while max(losses(run), default=0) < step:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_the_log_and_the_losses(whole):
    lines = read_log(whole)
    assert list(losses(whole)) == list(range(1, 61))
    assert {"step", "loss", "skipped", "clips_per_second", "wait_share", "peak_memory_mb"} == set(lines[1])
    assert all(0 <= line["wait_share"] <= 1 for line in lines if "loss" in line)
    valid = losses(whole, "valid_loss")
    assert list(valid) == [0, 30, 60]
    assert not any("loss" in line for line in lines if "valid_loss" in line)
    assert valid[60] < 0.9 * valid[0]
    assert list((whole / "tensorboard").iterdir())


@pytest.mark.parametrize(("number", "name"), [(signal.SIGTERM, "SIGTERM"), (signal.SIGUSR1, "SIGUSR1")])
def test_stopped_by_a_signal_and_continued(whole, encodec_data, config_file, tmp_path, monkeypatch, number, name):
    config = load_config(str(config_file), "edm")
    at_step(monkeypatch, 37, lambda: os.kill(os.getpid(), number))
    assert train(tmp_path, encodec_data[0], config) == name
    assert max(losses(tmp_path)) == 37 or max(losses(tmp_path)) == 38
    assert train(tmp_path, encodec_data[0], config) == ""
    assert losses(tmp_path) == losses(whole)
    assert losses(tmp_path, "valid_loss") == losses(whole, "valid_loss")
    assert same_weights(weights(tmp_path), weights(whole))


def test_stopped_by_a_file(whole, encodec_data, config_file, tmp_path, monkeypatch):
    config = load_config(str(config_file), "edm")
    at_step(monkeypatch, 5, (tmp_path / "stop").touch)
    assert str(tmp_path / "stop") in train(tmp_path, encodec_data[0], config)
    assert not (tmp_path / "stop").exists()
    assert max(losses(tmp_path)) < 10
    assert train(tmp_path, encodec_data[0], config.model_copy(deep=True)) == ""
    assert losses(tmp_path) == losses(whole)


def test_stopped_at_its_time_limit_and_saved(encodec_data, config_file, tmp_path, monkeypatch):
    config = load_config(str(config_file), "edm", overrides="machine.max_train_seconds=1000")
    clock = time.perf_counter
    at_step(monkeypatch, 7, lambda: monkeypatch.setattr(trainer.time, "perf_counter", lambda: clock() + 1000))
    assert train(tmp_path, encodec_data[0], config) == "its time limit"
    assert max(losses(tmp_path)) == 7
    assert 1000 < load_model(tmp_path).train_seconds < 1100


def test_killed_after_a_checkpoint_and_continued(whole, encodec_data, config_file, tmp_path):
    process = subprocess.Popen(command(config_file, encodec_data[0], tmp_path), env=environment(), cwd=ROOT)
    wait_for_step(tmp_path, 25, process)
    process.kill()
    process.wait()
    with open(tmp_path / "log.jsonl", "ab") as file:
        file.write(b'{"step": 99, "lo')  # a line that the kill cut off
    assert train(tmp_path, encodec_data[0], load_config(str(config_file), "edm")) == ""
    assert losses(tmp_path) == losses(whole)
    assert same_weights(weights(tmp_path), weights(whole))


def test_two_ranks_stopped_and_continued_by_one(whole, encodec_data, config_file, tmp_path):
    run = command(config_file, encodec_data[0], tmp_path, "--gpus", "2")
    process = subprocess.Popen(run, env=environment(), cwd=ROOT, stdout=subprocess.PIPE, text=True)
    wait_for_step(tmp_path, 33, process)
    process.send_signal(signal.SIGTERM)
    assert "stopped by SIGTERM" in process.communicate(timeout=60)[0]
    assert process.returncode == 0
    stopped = max(losses(tmp_path))
    assert train(tmp_path, encodec_data[0], load_config(str(config_file), "edm")) == ""
    assert 33 <= stopped <= 60
    expected = losses(whole)
    assert losses(tmp_path) == pytest.approx(expected, rel=1e-5)
    assert losses(tmp_path, "valid_loss") == pytest.approx(losses(whole, "valid_loss"), rel=1e-5)


def test_micro_batches_change_only_rounding(whole, encodec_data, config_file, tmp_path):
    config = load_config(str(config_file), "edm", steps=12)
    machine = config.machine.model_copy(update={"micro_batch": 3})
    train(tmp_path, encodec_data[0], config.model_copy(update={"machine": machine}))
    assert losses(tmp_path) == pytest.approx({k: v for k, v in losses(whole).items() if k <= 12}, rel=1e-5)


def test_an_adaptive_paradigm_continues(disc_data, config_file, tmp_path, monkeypatch):
    config = load_config(str(config_file), "discdpm", steps=20)
    train(tmp_path / "whole", disc_data, config)
    at_step(monkeypatch, 13, lambda: os.kill(os.getpid(), signal.SIGTERM))
    train(tmp_path / "parts", disc_data, config)
    train(tmp_path / "parts", disc_data, config)
    assert losses(tmp_path / "parts") == losses(tmp_path / "whole")
    state = torch.load(tmp_path / "whole/checkpoints/step-00000020/state.pt", weights_only=True)["task"]
    assert state["seen"].sum() == 20 * 4  # every clip of every step was shown, once


def test_more_steps_continue_a_finished_run(whole, encodec_data, config_file, tmp_path):
    train(tmp_path, encodec_data[0], load_config(str(config_file), "edm", steps=31))
    train(tmp_path, encodec_data[0], load_config(str(config_file), "edm"))
    assert losses(tmp_path) == losses(whole)


def test_lines_every_ten_steps_survive_a_stop(whole, encodec_data, config_file, tmp_path, monkeypatch):
    config = load_config(str(config_file), "edm", steps=40)
    config = config.model_copy(update={"logging": config.logging.model_copy(update={"log_every": 10})})
    at_step(monkeypatch, 37, lambda: os.kill(os.getpid(), signal.SIGTERM))
    train(tmp_path, encodec_data[0], config)
    train(tmp_path, encodec_data[0], config)
    expected = [losses(whole)[step] for step in range(31, 41)]
    assert list(losses(tmp_path)) == [10, 20, 30, 40]
    assert losses(tmp_path)[40] == pytest.approx(sum(expected) / 10, rel=1e-12)


def test_gradients_are_clipped_together(encodec_data, config_file, tmp_path, monkeypatch):
    norms = []
    step = torch.optim.Adam.step

    def watched(self, *arguments, **options):
        gradients = [p.grad for group in self.param_groups for p in group["params"] if p.grad is not None]
        norms.append(float(torch.cat([gradient.flatten() for gradient in gradients]).norm()))
        return step(self, *arguments, **options)

    monkeypatch.setattr(torch.optim.Adam, "step", watched)
    config = load_config(str(config_file), "edm", steps=3)
    training = config.training.model_copy(update={"clip_norm": 0.01})
    train(tmp_path, encodec_data[0], config.model_copy(update={"training": training}))
    assert norms == pytest.approx([0.01] * 3, rel=1e-2)


def spoil(monkeypatch, wrong, value=float("nan")):
    """Make the loss of the clips at the positions `wrong` not finite in training."""
    loss = EDM.loss

    def spoiled(self, network, x0, controls, noise):
        values = loss(self, network, x0, controls, noise)
        hit = torch.tensor([index in wrong for index in noise.indices]) & (noise.stream == "train")
        return values * torch.where(hit, value, 1.0)

    monkeypatch.setattr(EDM, "loss", spoiled)
    import training.diffusion_task

    per_clip = training.diffusion_task.PerClipNoise

    class Named(per_clip):
        def __init__(self, seed, indices, stream, *devices, **options):
            super().__init__(seed, indices, stream, *devices, **options)
            self.indices, self.stream = list(indices), stream

    monkeypatch.setattr(training.diffusion_task, "PerClipNoise", Named)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_steps_that_are_not_finite_are_counted_and_skipped(encodec_data, config_file, tmp_path, monkeypatch, value):
    spoil(monkeypatch, {4 * 4 + 1, 4 * 5 + 2, 4 * 8}, value)  # steps 5, 6 and 9
    config = load_config(str(config_file), "edm", steps=15)
    assert train(tmp_path, encodec_data[0], config) == ""
    lines = {line["step"]: line for line in read_log(tmp_path) if "loss" in line}
    assert [step for step, line in lines.items() if line["skipped"]] == [5, 6, 9]
    assert [step for step, line in lines.items() if line["loss"] is None] == [5, 6, 9]
    assert all(torch.isfinite(value).all() for value in weights(tmp_path).values())


def test_losses_read_at_log_lines_give_the_same_run(encodec_data, config_file, tmp_path, monkeypatch):
    spoil(monkeypatch, {4 * 5 + 2})  # step 6
    config = load_config(str(config_file), "edm", steps=14, overrides="logging.log_every=4 machine.resident=true")
    train(tmp_path / "each", encodec_data[0], config)
    monkeypatch.setattr("training.trainer.reads_late", lambda task, world: True)
    train(tmp_path / "late", encodec_data[0], config)
    assert losses(tmp_path / "late", "skipped") == losses(tmp_path / "each", "skipped") == {4: 0, 8: 1, 12: 0}
    assert losses(tmp_path / "late") == pytest.approx(losses(tmp_path / "each"), rel=1e-4)
    assert all(torch.isfinite(value).all() for value in weights(tmp_path / "late").values())


def test_too_many_in_a_row_end_the_run(encodec_data, config_file, tmp_path, monkeypatch):
    spoil(monkeypatch, set(range(4 * 24, 10_000)))  # from step 25
    config = load_config(str(config_file), "edm")
    for _ in range(2):  # continuing does not help
        with pytest.raises(UserError, match="not finite in 3 steps in a row, up to step 27"):
            train(tmp_path, encodec_data[0], config)
    assert load_model(tmp_path).step == 20


def test_another_config_or_other_data_are_refused(whole, encodec_data, make_dataset, config_file, tmp_path):
    before = (whole / "config.json").read_bytes()
    config = load_config(str(config_file), "edm")
    training = config.training.model_copy(update={"learning_rate": 0.5})
    with pytest.raises(UserError, match=r"training\.learning_rate was 0\.003 and is now 0\.5"):
        train(whole, encodec_data[0], config.model_copy(update={"training": training}))
    with pytest.raises(UserError, match="paradigm was"):
        train(whole, encodec_data[0], load_config(str(config_file), "ddpm"))
    other, _ = make_dataset(tmp_path, "encodec", {"train": 13, "valid": 4}, seed=1)
    with pytest.raises(UserError, match="data_digest"):
        train(whole, other, config)
    assert (whole / "config.json").read_bytes() == before


def test_a_moved_dataset_is_the_same(encodec_data, config_file, tmp_path):
    import shutil

    config = load_config(str(config_file), "edm", steps=2)
    train(tmp_path / "run", encodec_data[0], config)
    moved = shutil.copytree(encodec_data[0], tmp_path / "elsewhere" / "PVT-encodec")
    assert train(tmp_path / "run", moved.parent, load_config(str(config_file), "edm", steps=4)) == ""
    assert list(losses(tmp_path / "run")) == [1, 2, 3, 4]


def test_one_run_at_a_time(encodec_data, config_file, tmp_path):
    from data_specs.io.locks import locked

    with locked(tmp_path / ".lock", "this"), pytest.raises(UserError, match="is in use by"):
        train(tmp_path, encodec_data[0], load_config(str(config_file), "edm"))


def test_samples_are_logged_from_the_averaged_model(encodec_data, config_file, tmp_path, monkeypatch):
    config = load_config(str(config_file), "edm", steps=5)
    config = config.model_copy(update={"logging": config.logging.model_copy(update={"listen_every": 2})})
    logged = []
    monkeypatch.setattr(
        DiffusionTask, "log_samples", lambda task, model, data, log, folder: logged.append((model, folder))
    )
    train(tmp_path, encodec_data[0], config)
    assert [model.step for model, _ in logged] == [2, 4, 5]
    assert logged[0][1] == tmp_path / "listen" / "step-00000002"
    assert same_weights(logged[-1][0].network.state_dict(), weights(tmp_path))


def test_dry_run_prints_sizes_and_writes_nothing(encodec_data, config_file, tmp_path, capsys):
    config = load_config(str(config_file), "edm")
    train(tmp_path / "run", encodec_data[0], config, dry_run=True)
    printed, data = capsys.readouterr().out, Dataset(encodec_data[0])
    network = build_model(config, DatasetMetadata.of(data.info, data.features)).network
    assert f"{parameter_count(network):,}" in printed
    assert "data [4, 128, 75] float32" in printed
    assert "controls [4, 5, 75] float32" in printed
    assert "learning_rate 0.003" in printed
    assert not (tmp_path / "run").exists()


def test_a_checkpoint_without_a_registered_part_is_refused(encodec_data, config_file, tmp_path):
    train(tmp_path, encodec_data[0], load_config(str(config_file), "edm", steps=1))
    saved = load_newest(tmp_path)
    del saved.state["optimizer"]
    save(tmp_path, 1, saved.state, saved.weights, {}, 1)
    with pytest.raises(UserError, match=r"no state of optimizer: another version .* wrote it"):
        train(tmp_path, encodec_data[0], load_config(str(config_file), "edm", steps=2))


def test_a_rank_that_dies_ends_the_run(encodec_data, config_file, tmp_path):
    run = command(config_file, encodec_data[0], tmp_path, "--gpus", "2", "--steps", "100000")
    process = subprocess.Popen(run, env=environment(), cwd=ROOT, stderr=subprocess.PIPE, text=True)
    wait_for_step(tmp_path, 3, process)
    ranks = rank_processes(process.pid)
    assert len(ranks) == 2
    os.kill(ranks[1], signal.SIGKILL)
    process.communicate(timeout=60)
    assert process.returncode != 0
    assert not any(alive(rank) for rank in ranks.values())


def test_training_imports_no_tensorflow(encodec_data, config_file, tmp_path):
    code = (
        "import sys, json; from training.cli import main; status = main(sys.argv[1:]);"
        "heavy = {'tensorflow', 'dask', 'fluidsynth', 'mido', 'pretty_midi', 'symusic'};"
        "print(json.dumps(sorted(heavy & set(sys.modules)))); sys.exit(status)"
    )
    arguments = command(config_file, encodec_data[0], tmp_path, "--steps", "2")[3:]
    done = subprocess.run([sys.executable, "-c", code, *arguments], env=environment(), cwd=ROOT, capture_output=True)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == []

"""A resumable export continues on another machine: losses, averages and moments within half precision."""

import json

import pytest
import torch

from data_specs.errors import UserError
from training import checkpoint
from training.cli import main
from training.config import load_config
from training.log import read_log
from training.trainer import train

CONFIG = """
[training]
steps = 12
batch = 4
seconds = 1
learning_rate = 1e-3
warmup_steps = 2
ema_decay = 0.9
ema_stds = [0.05, 0.1]
precision = "float32"
[logging]
log_every = 1
valid_every = 12
valid_clips = 4
listen_every = 0
checkpoint_every = 6
[network.encodec]
kind = "unet"
channels = 32
factors = [2]
embedding = 16
skip = 3
controls = { local = { channels = 8 } }
"""


@pytest.fixture(scope="module")
def config_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("config") / "small.toml"
    path.write_text(CONFIG)
    return path


@pytest.fixture(scope="module")
def runs(encodec_data, config_file, tmp_path_factory):
    """Folder with a whole run of 12 steps, one of 6, and the export of the latter."""
    folder = tmp_path_factory.mktemp("resumable")
    train(folder / "whole", encodec_data[0], load_config(str(config_file), "edm"))
    train(folder / "half", encodec_data[0], load_config(str(config_file), "edm", steps=6))
    assert main(["export", str(folder / "half"), "--to", "resumable", "--out", str(folder / "half.pt")]) == 0
    return folder


def command(config_file, data, run, *more):
    return ["train", "--paradigm", "edm", "--config", str(config_file), "--data", str(data), "--run", str(run), *more]


def test_training_continues_with_equal_losses(runs, encodec_data, config_file, tmp_path):
    options = ("--resume", str(runs / "half.pt"), "--threads", "1", "--device", "cpu")
    assert main(command(config_file, encodec_data[0], tmp_path / "run", *options)) == 0
    expected, found = (read_log(run) for run in (runs / "whole", tmp_path / "run"))
    expected_losses = {line["step"]: line["loss"] for line in expected if "loss" in line}
    found_losses = {line["step"]: line["loss"] for line in found if "loss" in line}
    assert sorted(found_losses) == list(range(7, 13))
    for step, loss in found_losses.items():
        assert loss == pytest.approx(expected_losses[step], rel=2e-3)
    expected_valid, found_valid = (
        [line["valid_loss"] for line in log if "valid_loss" in line] for log in (expected, found)
    )
    assert found_valid[-1] == pytest.approx(expected_valid[-1], rel=2e-3)


def test_every_part_of_the_state_survives_in_half_precision(runs, encodec_data, config_file, tmp_path):
    options = ("--resume", str(runs / "half.pt"), "--steps", "6", "--threads", "1", "--device", "cpu")
    assert main(command(config_file, encodec_data[0], tmp_path / "run", *options)) == 0
    expected, found = (checkpoint.load_newest(run) for run in (runs / "half", tmp_path / "run"))
    pairs = [(expected.weights[name], value, 2**-11) for name, value in found.weights.items()]
    pairs += [(expected.state["network"][name], value, 2**-11) for name, value in found.state["network"].items()]
    for std, average in expected.state["averages"].items():
        pairs += [(value, found.state["averages"][std][name], 2**-11) for name, value in average.items()]
    for number, moments in expected.state["optimizer"]["state"].items():
        pairs += [(moments[key], found.state["optimizer"]["state"][number][key], 2**-8) for key in moments]
    for before, after, precision in pairs:
        assert after.dtype == torch.float32
        torch.testing.assert_close(after, before, rtol=precision, atol=1e-7)
    assert found.state["progress"] == expected.state["progress"]
    numbers = sum(value.numel() for value in expected.weights.values())
    assert (runs / "half.pt").stat().st_size < 2.5 * 6 * numbers  # two bytes for each of six copies, and names


def test_other_data_and_other_files_are_refused(runs, encodec_data, config_file, tmp_path, capsys):
    options = ("--resume", str(runs / "half.pt"), "--device", "cpu")
    other = tmp_path / "data" / "PVT-encodec"
    other.parent.mkdir()
    other.mkdir()
    for path in encodec_data[0].iterdir():
        (other / path.name).symlink_to(path)
    (other / "dataset.json").unlink()
    manifest = json.loads((encodec_data[0] / "dataset.json").read_bytes())
    (other / "dataset.json").write_text(json.dumps({**manifest, "plan_digest": "1" * 64}))
    assert main(command(config_file, other, tmp_path / "a", *options)) != 0
    assert "plan_digest 000000000000, got 111111111111" in capsys.readouterr().err
    assert not (tmp_path / "a" / "config.json").exists()
    (tmp_path / "no.pt").write_bytes(b"no")
    assert main(command(config_file, encodec_data[0], tmp_path / "b", "--resume", str(tmp_path / "no.pt"))) != 0
    assert "--to resumable" in capsys.readouterr().err
    assert main(["export", str(tmp_path), "--to", "resumable", "--out", str(tmp_path / "x.pt")]) != 0


def test_weights_beyond_float16_are_not_exported(encodec_data, config_file, runs, tmp_path):
    from training.resumable import _to_half

    with pytest.raises(UserError, match="float16"):
        _to_half(torch.full((2,), 1e6), torch.float16)
    assert _to_half(torch.full((2,), 1e-30), torch.bfloat16).float().min() > 0

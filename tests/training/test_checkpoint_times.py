"""Checkpoints by time, with a clock that the test moves."""

import itertools
import re
import time
from types import SimpleNamespace

import pytest

from training import trainer
from training.config import load_config

CONFIG = """
[training]
precision = "float32"
steps = 8
batch = 2
learning_rate = 1e-3
seconds = 0.5
[logging]
valid_every = 0
listen_every = 0
checkpoint_every = 0
[network.encodec]
kind = "unet"
channels = 4
skip = 1
factors = [2]
embedding = 8
"""


@pytest.mark.parametrize(("seconds", "steps"), [(100, [3, 6, 8]), (1000, [8]), (0, [8])])
def test_checkpoints_after_a_number_of_seconds(
    seconds: int,
    steps: list[int],
    encodec_data,
    tmp_path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The clock moves by 40 s at each reading: one at the start, one per step, one per checkpoint."""
    readings = itertools.count(0, 40)
    clock = SimpleNamespace(monotonic=lambda: next(readings), perf_counter=time.perf_counter)
    monkeypatch.setattr(trainer, "time", clock)
    path = tmp_path / "narrow.toml"
    path.write_text(CONFIG)
    overrides = f"logging.checkpoint_seconds={seconds}"
    trainer.train(
        tmp_path / "run", encodec_data[0], load_config(str(path), "edm", "encodec", overrides=overrides), "cpu"
    )
    saved = re.findall(r"step (\d+): saved", capsys.readouterr().out)
    assert [int(step) for step in saved] == steps

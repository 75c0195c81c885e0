"""The shipped configs load for every pair, and keep to what was published."""

import pytest

from training.config import load_config

PAIRS = [("ddpm", "encodec"), ("ddpm", "cqt"), ("edm", "encodec"), ("edm", "cqt"), ("discdpm", "disc")]


@pytest.mark.parametrize(("paradigm", "format_name"), PAIRS)
@pytest.mark.parametrize("name", ["tiny", "paper", "best"])
def test_they_load(name, paradigm, format_name):
    config = load_config(name, paradigm, format_name)
    assert (config.name, config.paradigm, config.format) == (name, paradigm, format_name)
    assert config.training.control_dropout == 0.3


@pytest.mark.parametrize(
    ("format_name", "paradigm", "per_gpu"), [("cqt", "edm", 4), ("encodec", "edm", 16), ("disc", "discdpm", 16)]
)
def test_paper_has_the_published_training(format_name, paradigm, per_gpu):
    config = load_config("paper", paradigm, format_name)
    assert config.training.steps == 500_000
    assert config.training.learning_rate == 1e-4
    assert config.training.batch == 4 * per_gpu  # 4 GPUs
    assert config.machine.micro_batch == per_gpu
    assert config.training.seconds is None


def test_best_has_the_published_training():
    config = load_config("best", "edm")
    assert (config.training.steps, config.training.batch, config.machine.micro_batch) == (1_000_000, 4 * 32, 32)


def test_tiny_logs_every_step_of_short_crops():
    config = load_config("tiny", "edm")
    assert config.logging.log_every == 1
    assert config.training.seconds == 2
    assert config.training.batch % 2 == 0  # for two ranks

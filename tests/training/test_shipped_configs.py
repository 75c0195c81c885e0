"""The shipped configs load for every pair, and keep to what was published."""

import pytest
import torch

from bench.node.artifacts import MOST_BYTES
from training.conditioning import ControlLayout
from training.config import load_config
from training.networks import build_network, parameter_count

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


@pytest.mark.parametrize(("paradigm", "format_name"), PAIRS)
def test_gpu_fits_into_the_bytes_that_are_handed_back(paradigm, format_name):
    config = load_config("gpu", paradigm, format_name)
    shape = {"encodec": (128, 600), "cqt": (2, 216, 1921), "disc": (16, 600)}[format_name]
    classes = 1024 if format_name == "disc" else None
    layout = ControlLayout((("velocity", 1), ("chroma", 1), ("instruments", 3)))
    with torch.device("meta"):
        network = build_network(config.network, shape, layout, classes=classes, vocabulary=classes)
    assert 2 * parameter_count(network) < 0.99 * MOST_BYTES
    assert config.machine.compile
    assert config.logging.checkpoint_seconds >= 60

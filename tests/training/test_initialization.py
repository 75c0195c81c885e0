"""INIT=: weights by name, controls and instruments by label."""

from dataclasses import replace

import pytest
import torch

from data_specs.errors import UserError
from training.config import load_config
from training.initialization import initialize
from training.metadata import DatasetMetadata
from training.model import build_model, load_model
from training.trainer import train


@pytest.fixture(scope="module")
def source():
    return load_model("edm")


def fresh(source, **changes):
    data = DatasetMetadata(**{**source.data.model_dump(), **changes})
    config = source.config.model_copy(update={"training": source.config.training.model_copy(update={"seed": 9})})
    return build_model(config, data)


def control_weights(model):
    ((name, weight),) = [
        (n, w) for n, w in model.network.named_parameters() if n.endswith("conv_in.weight") and "." in n[:-15]
    ]
    return name, weight


def test_an_equal_model_takes_every_weight(source):
    model = fresh(source)
    assert initialize(model, source) == []
    for name, value in model.network.state_dict().items():
        assert torch.equal(value, source.network.state_dict()[name])


def test_instruments_are_matched_by_label_and_new_ones_start_at_the_mean(source):
    model = fresh(source, instruments=("trumpet", "organ", "piano"))
    assert initialize(model, source) == []
    _, old = control_weights(source)
    _, new = control_weights(model)
    first = source.data.layout.slice("instruments").start  # piano, violin, trumpet
    assert torch.equal(new[:, first], old[:, first + 2])
    assert torch.equal(new[:, first + 2], old[:, first])
    assert torch.allclose(new[:, first + 1], old[:, first : first + 3].mean(1))
    assert torch.equal(new[:, :first], old[:, :first])


def test_a_new_number_of_instruments_keeps_the_other_weights(source):
    model = fresh(source, instruments=("piano", "bell"), controls={**source.data.controls, "instruments": (2, 600)})
    assert initialize(model, source) == []
    _, old = control_weights(source)
    _, new = control_weights(model)
    first = source.data.layout.slice("instruments").start
    assert torch.equal(new[:, first], old[:, first])
    assert torch.allclose(new[:, first + 1], old[:, first : first + 3].mean(1))


def test_another_codec_is_refused(source):
    other = replace(source, data=source.data.model_copy(update={"codec_digest": "f" * 64}))
    with pytest.raises(UserError, match="INIT= must name a model for the codec of the data"):
        initialize(fresh(source), other)


def test_a_new_run_starts_from_the_model_and_a_resumed_one_does_not(encodec_data, tmp_path, capsys):
    config = tmp_path / "c.toml"
    config.write_text(
        '[training]\nsteps = 1\nbatch = 2\nseconds = 1\nprecision = "float32"\n'
        "[logging]\nvalid_every = 0\nlisten_every = 0\n"
        "[network.encodec]\nkind = 'unet'\nchannels = 8\nskip = 1\nfactors = [2]\n"
    )
    first = load_config(str(config), "edm")
    train(tmp_path / "first", encodec_data[0], first)
    train(tmp_path / "second", encodec_data[0], first, init=tmp_path / "first")
    assert "without a match: none" in capsys.readouterr().out
    train(tmp_path / "second", encodec_data[0], load_config(str(config), "edm", steps=2), init=tmp_path / "first")
    assert "initial weights" not in capsys.readouterr().out

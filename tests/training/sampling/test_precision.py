"""Sampling in bf16, and control encodings that are kept between steps, with a shipped model."""

import pytest
import torch
from torch import Tensor

from data_specs.errors import UserError
from training.diffusion import PerClipNoise
from training.model import TrainedModel, load_model
from training.networks.unet import encoding_once
from training.options import parse_precision


def latents(model: TrainedModel, clips: range = range(2)) -> Tensor:
    """Two steps with guidance, half a second, from controls that differ between clips."""
    controls = torch.linspace(0, 1, 4 * model.data.layout.total * 40).view(4, -1, 40)[list(clips)]
    options = model.paradigm.options({"steps": 2})
    noise = PerClipNoise(0, clips, "sample")
    return model.paradigm.sample(model.network, (128, 40), controls, noise, options, guidance=2.0)


def test_bf16_samples_are_close_to_float32() -> None:
    exact, rounded = load_model("edm"), load_model("edm", precision="bf16")
    assert {p.dtype for p in exact.network.parameters()} == {torch.float32}
    ours, theirs = latents(rounded), latents(exact)
    assert ours.dtype == torch.float32
    assert 0 < (ours - theirs).norm() < 0.02 * theirs.norm()
    alone = latents(rounded, range(1, 2))
    assert (ours[1:] - alone).norm() < 0.02 * alone.norm()


def test_controls_are_encoded_once_per_clip(monkeypatch: pytest.MonkeyPatch) -> None:
    model, calls = load_model("edm"), []
    branch = model.network.branches["local"]
    encode = branch.encode
    monkeypatch.setattr(branch, "encode", lambda *inputs: calls.append(1) or encode(*inputs))
    apart = latents(model)
    assert len(calls) == model.paradigm.evaluations(model.paradigm.options({"steps": 2}))
    calls.clear()
    with encoding_once(model.network):
        assert torch.equal(latents(model), apart)
        assert len(calls) == 1
        assert not torch.equal(latents(model, range(2, 4)), apart)
    model.sample({"version": 1, "velocity": [[0, 1]]}, seconds=0.5, n=1, steps=2)
    latents(model)
    assert len(calls) == 3 + model.paradigm.evaluations(model.paradigm.options({"steps": 2}))


def test_another_precision_is_refused() -> None:
    with pytest.raises(UserError, match="PRECISION= must be float32, bf16 or auto, got 'fp8'"):
        parse_precision("fp8")

"""The pvt codec: its figures on a fixed clip, and what its files must hold."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from data_specs.codecs import load_codec, mdct
from data_specs.codecs.pvt import PvtCodec
from data_specs.codecs.weights import read_weights, write_weights
from data_specs.errors import UserError

Phrase = Callable[..., Tensor]
FIGURES = {
    0: 54.863,
    16: 16.923,
    8: 12.201,
    4: 7.624,
}  # SI-SDR in dB of the clip below, by codebooks; 0 is from latents
SPREAD = 0.070352  # standard deviation of its latents


@pytest.fixture(scope="module")
def codec() -> PvtCodec:
    loaded = load_codec("pvt")
    assert isinstance(loaded, PvtCodec)
    return loaded


def si_sdr(audio: Tensor, decoded: Tensor) -> float:
    """Scale-invariant signal-to-distortion ratio in dB (Le Roux et al. 2019, equation 5)."""
    target = (audio * decoded).sum() / audio.square().sum() * audio
    return float(10 * torch.log10(target.square().sum() / (target - decoded).square().sum()))


def test_figures_on_a_fixed_clip(codec: PvtCodec, phrase: Phrase) -> None:
    """A file that is broken, or of another fit, cannot pass: its figures would differ in the first digits."""
    audio = phrase()
    latents = codec.encode(audio)
    codes = codec.quantize(latents, 16)
    assert latents.shape == (1, 128, 600)
    assert codes.shape == (1, 16, 600)
    found = {0: si_sdr(audio, codec.decode(latents))}
    for count in (16, 8, 4):
        found[count] = si_sdr(audio, codec.decode(codec.dequantize(codes[:, :count])))
    assert found == pytest.approx(FIGURES, abs=0.05)
    assert float(latents.std()) == pytest.approx(SPREAD, rel=1e-3)


def test_louder_is_the_same_direction(codec: PvtCodec, phrase: Phrase) -> None:
    """The power law keeps each frame's direction and raises its length to the power."""
    quiet, loud = codec.encode(0.1 * phrase(1.0)), codec.encode(phrase(1.0))
    sounding = loud.norm(dim=1)[0] > 0.3
    assert sounding.sum() > 30
    ratio = (loud.norm(dim=1) / quiet.norm(dim=1))[0, sounding]
    torch.testing.assert_close(ratio, torch.full_like(ratio, 10**codec.power), rtol=1e-3, atol=0)


def test_decoding_is_differentiable(codec: PvtCodec, phrase: Phrase) -> None:
    latents = codec.encode(phrase(1.0)).double()
    direction = torch.randn(latents.shape, generator=torch.Generator().manual_seed(0))
    x = latents.float().requires_grad_()
    codec.decode(x).square().sum().backward()
    assert x.grad is not None
    step = 1e-3
    up, down = (codec.decode(latents + sign * step * direction).double().square().sum() for sign in (1, -1))
    assert float((x.grad * direction).sum()) == pytest.approx(float((up - down) / (2 * step)), rel=1e-2)


def _tensors() -> dict[str, Tensor]:
    return {
        "window": mdct.sine_window().float(),
        "weight": torch.ones(320),
        "basis": torch.eye(320, 128),
        "codebooks": torch.zeros(2, 4, 128),
    }


@pytest.mark.parametrize("gone", ["basis", "codebooks", "power", "name"])
def test_files_that_lack_a_part(tmp_path: Path, gone: str) -> None:
    tensors, metadata = _tensors(), {"power": 0.5, "name": "x"}
    tensors.pop(gone, None)
    metadata.pop(gone, None)
    write_weights(tmp_path / "x.safetensors", "pvt", tensors, metadata)
    with pytest.raises(UserError, match="must be a complete pvt codec"):
        load_codec(str(tmp_path / "x.safetensors"))


def test_metadata_survive(tmp_path: Path) -> None:
    write_weights(tmp_path / "x.safetensors", "pvt", _tensors(), {"power": 0.5, "name": "x"})
    tensors, metadata = read_weights(tmp_path / "x.safetensors")
    assert metadata == {"power": 0.5, "name": "x", "codec": "pvt", "version": 1}
    assert all(torch.equal(tensors[name], tensor) for name, tensor in _tensors().items())


@pytest.mark.parametrize(
    ("change", "power"),
    [({}, 0.0), ({"basis": torch.eye(320, 64)}, 0.5), ({"window": mdct.sine_window(160).float()}, 0.5)],
)
def test_parts_that_do_not_fit_each_other_are_found_on_loading(tmp_path: Path, change: dict, power: float) -> None:
    write_weights(tmp_path / "x.safetensors", "pvt", {**_tensors(), **change}, {"power": power, "name": "x"})
    with pytest.raises(UserError, match="must be a complete pvt codec"):
        load_codec(str(tmp_path / "x.safetensors"))

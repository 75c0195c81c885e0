"""The shipped codec: its figures on a fixed clip, its promises, and files that are not whole."""

import json
import math
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from data_specs.codecs import load_codec, mdct, missing_weights
from data_specs.codecs.pvt import PvtCodec
from data_specs.codecs.weights import FOLDER, read_weights, write_weights
from data_specs.errors import UserError
from data_specs.files import file_sha256

SHIPPED = PvtCodec.shipped()
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


def phrase(seconds: float = 8.0) -> Tensor:
    """A made-up horn: eight notes of ten harmonics with attack, decay and vibrato, float32 [1, 1, N]."""
    rng = np.random.default_rng(5)
    t = np.arange(int(seconds * 24_000)) / 24_000
    audio = np.zeros_like(t)
    for index, pitch in enumerate(rng.integers(48, 73, 8)):
        s = t - index * seconds / 8
        envelope = np.where(s > 0, (1 - np.exp(-60 * s)) * np.exp(-3 * s), 0)
        phase = 2 * math.pi * 440 * 2 ** ((pitch - 69) / 12) * s + 0.1 * np.sin(2 * math.pi * 5 * s)
        audio += envelope * sum(0.6**k * np.sin(k * phase + k) for k in range(1, 11))
    return torch.from_numpy(0.2 * audio).float()[None, None]


def si_sdr(audio: Tensor, decoded: Tensor) -> float:
    """Scale-invariant signal-to-distortion ratio in dB (Le Roux et al. 2019, equation 5)."""
    target = (audio * decoded).sum() / audio.square().sum() * audio
    return float(10 * torch.log10(target.square().sum() / (target - decoded).square().sum()))


def test_figures_on_a_fixed_clip(codec: PvtCodec) -> None:
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


def test_codes_lie_in_their_range_and_start_with_the_same_codebooks(codec: PvtCodec) -> None:
    latents = codec.encode(phrase(1.0))
    codes = codec.quantize(latents, 16)
    assert codes.min() >= 0
    assert codes.max() <= 1023
    assert torch.equal(codec.quantize(latents, 4), codes[:, :4])


def test_same_audio_same_codes_in_any_batch(codec: PvtCodec) -> None:
    audio = torch.cat([phrase(2.0) * gain for gain in (1.0, 0.3, 0.01, 0.0)])
    together = codec.quantize(codec.encode(audio), 16)
    alone = torch.cat([codec.quantize(codec.encode(clip), 16) for clip in audio.split(1)])
    assert torch.equal(together, alone)


def test_digital_silence_stays_silent(codec: PvtCodec) -> None:
    codes = codec.quantize(codec.encode(torch.zeros(1, 1, 32_000)), 16)
    assert not codes.any()
    for count in (16, 8, 4, 1):
        assert codec.decode(codec.dequantize(codes[:, :count])).abs().max() < 10 ** (-70 / 20)


def test_entry_zero_is_the_zero_vector_and_no_entry_is_twice_there() -> None:
    books = load_file(SHIPPED)["codebooks"]
    assert books.shape == (16, 1024, 128)
    assert torch.isfinite(books).all()
    assert not books[:, 0].any()
    assert all(len(torch.unique(book, dim=0)) == 1024 for book in books)


def test_basis_is_orthonormal() -> None:
    basis = load_file(SHIPPED)["basis"].double()
    torch.testing.assert_close(basis.T @ basis, torch.eye(128, dtype=torch.float64), atol=1e-5, rtol=0)


@pytest.mark.parametrize("frames", [1, 2, 37])
def test_any_length_of_whole_frames(codec: PvtCodec, frames: int) -> None:
    audio = phrase()[..., : 320 * frames]
    latents = codec.encode(audio)
    assert latents.shape == (1, 128, frames)
    assert codec.decode(latents).shape == audio.shape


@pytest.mark.parametrize("samples", [0, 319, 24_001])
def test_lengths_off_the_hop(codec: PvtCodec, samples: int) -> None:
    with pytest.raises(UserError, match="frames of 320"):
        codec.encode(torch.zeros(1, 1, samples))


def test_louder_is_the_same_direction(codec: PvtCodec) -> None:
    """The power law keeps each frame's direction and raises its length to the power."""
    quiet, loud = codec.encode(0.1 * phrase(1.0)), codec.encode(phrase(1.0))
    sounding = loud.norm(dim=1)[0] > 0.3
    assert sounding.sum() > 30
    ratio = (loud.norm(dim=1) / quiet.norm(dim=1))[0, sounding]
    torch.testing.assert_close(ratio, torch.full_like(ratio, 10**codec.power), rtol=1e-3, atol=0)


def test_decoding_is_differentiable(codec: PvtCodec) -> None:
    latents = codec.encode(phrase(1.0)).double()
    direction = torch.randn(latents.shape, generator=torch.Generator().manual_seed(0))
    x = latents.float().requires_grad_()
    codec.decode(x).square().sum().backward()
    assert x.grad is not None
    step = 1e-3
    up, down = (codec.decode(latents + sign * step * direction).double().square().sum() for sign in (1, -1))
    assert float((x.grad * direction).sum()) == pytest.approx(float((up - down) / (2 * step)), rel=1e-2)


def test_card_describes_the_shipped_file(codec: PvtCodec) -> None:
    card = (FOLDER / "pvt.md").read_text(encoding="utf-8")
    assert re.findall(r"\b[0-9a-f]{64}\b", card) == [file_sha256(SHIPPED)]
    assert codec.digest == file_sha256(SHIPPED)
    assert SHIPPED.stat().st_size <= 12e6


def test_a_copy_elsewhere_is_the_same_codec(codec: PvtCodec, tmp_path: Path) -> None:
    (tmp_path / "copy.safetensors").write_bytes(SHIPPED.read_bytes())
    copy = load_codec(str(tmp_path / "copy.safetensors"))
    assert (copy.digest, copy.name) == (codec.digest, "pvt")


def test_nothing_of_the_encodec_package_is_imported() -> None:
    script = (
        "import sys; from data_specs.codecs import load_codec; load_codec('pvt'); assert 'encodec' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


def test_unknown_names_and_missing_files() -> None:
    with pytest.raises(UserError, match="CODEC=pvd is neither one of pvt, phaseless, encodec_24khz nor a file"):
        load_codec("pvd")
    assert missing_weights("pvt") == ""
    assert "neither" in missing_weights("pvd")


def _tensors() -> dict[str, Tensor]:
    return {
        "window": mdct.sine_window().float(),
        "weight": torch.ones(320),
        "basis": torch.eye(320, 128),
        "codebooks": torch.zeros(2, 4, 128),
    }


def test_files_that_are_not_codecs(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    save_file({"a": torch.zeros(2)}, path)
    with pytest.raises(UserError, match="no codec of this project"):
        load_codec(str(path))
    path.write_bytes(SHIPPED.read_bytes()[:100_000])
    with pytest.raises(UserError, match="cannot be read as safetensors"):
        load_codec(str(path))
    write_weights(path, "unheard", _tensors(), {"name": "x"})
    with pytest.raises(UserError, match="codec of kind unheard"):
        load_codec(str(path))
    save_file(_tensors(), path, {"pvt-audio codec": json.dumps({"version": 99, "codec": "pvt"})})
    with pytest.raises(UserError, match="codec version 99"):
        load_codec(str(path))


@pytest.mark.parametrize("gone", ["basis", "codebooks", "power", "name"])
def test_files_that_lack_a_part(tmp_path: Path, gone: str) -> None:
    tensors, metadata = _tensors(), {"power": 0.5, "name": "x"}
    tensors.pop(gone, None)
    metadata.pop(gone, None)
    write_weights(tmp_path / "x.safetensors", "pvt", tensors, metadata)
    with pytest.raises(UserError, match="not a whole pvt codec"):
        load_codec(str(tmp_path / "x.safetensors"))


def test_metadata_survive(tmp_path: Path) -> None:
    write_weights(tmp_path / "x.safetensors", "pvt", _tensors(), {"power": 0.5, "name": "x"})
    tensors, metadata = read_weights(tmp_path / "x.safetensors")
    assert metadata == {"power": 0.5, "name": "x", "codec": "pvt", "version": 1}
    assert all(torch.equal(tensors[name], tensor) for name, tensor in _tensors().items())

"""The formats encodec and disc on any codec, here a small pvt codec with random orthonormal parts."""

import numpy as np
import pytest
import torch
from torch import Tensor

from data_specs.codecs.mdct import sine_window
from data_specs.codecs.pvt import PvtCodec
from data_specs.errors import UserError
from data_specs.representations.latents import Codes, Latents


@pytest.fixture(scope="module")
def codec() -> PvtCodec:
    generator = torch.Generator().manual_seed(0)
    basis = torch.linalg.qr(torch.randn(320, 128, generator=generator)).Q
    codebooks = 0.3 * torch.randn(8, 64, 128, generator=generator)
    codebooks[:, 0] = 0
    tensors = {"window": sine_window().float(), "weight": torch.ones(320), "basis": basis, "codebooks": codebooks}
    return PvtCodec(tensors, power=0.5, name="mine", digest="d" * 64)


def noise(batch: int, frames: int) -> Tensor:
    return 0.1 * torch.randn(batch, 1, 320 * frames, generator=torch.Generator().manual_seed(1))


def test_names_shapes_and_dtypes(codec: PvtCodec) -> None:
    latents, codes = Latents(codec), Codes(codec, 8)
    assert (latents.label, codes.label) == ("encodec (mine)", "disc (mine)")
    assert (latents.shape(192_000), codes.shape(192_000)) == ((128, 600), (8, 600))
    assert latents.digest == codes.digest == "d" * 64
    assert (latents.discrete, codes.discrete, codes.bins, codes.codebooks) == (False, True, 64, 8)
    audio = noise(2, 7)
    assert latents.encode(audio).shape == (2, 128, 7)
    assert latents.encode(audio).dtype == torch.float32
    assert codes.encode(audio).shape == (2, 8, 7)
    assert codes.encode(audio).dtype == torch.int16
    assert codes.encode(audio).min() >= 0
    assert codes.encode(audio).max() < 64


def test_decoding_takes_the_stored_dtype(codec: PvtCodec) -> None:
    latents = Latents(codec)
    stored = latents.encode(noise(2, 7))
    audio = latents.decode(stored)
    assert audio.shape == (2, 1, 320 * 7)
    assert audio.dtype == torch.float32
    halved = latents.decode(stored.half())
    assert halved.dtype == torch.float32
    torch.testing.assert_close(halved, audio, atol=2e-3, rtol=0)


def test_gradient_only_when_asked(codec: PvtCodec) -> None:
    stored = Latents(codec).encode(noise(1, 5)).requires_grad_()
    assert not Latents(codec).decode(stored).requires_grad
    Latents(codec).decode(stored, gradient=True).square().sum().backward()
    assert stored.grad is not None
    assert torch.isfinite(stored.grad).all()


def test_gradient_is_finite_at_silence(codec: PvtCodec) -> None:
    stored = torch.zeros(1, 128, 3, requires_grad=True)
    Latents(codec).decode(stored, gradient=True).sum().backward()
    assert stored.grad is not None
    assert torch.isfinite(stored.grad).all()


@pytest.mark.parametrize("count", [8, 3, 1])
def test_codes_of_any_smaller_number_of_codebooks(codec: PvtCodec, count: int) -> None:
    codes = Codes(codec, 8)
    stored = codes.encode(noise(1, 9))
    audio = codes.decode(stored[:, :count])
    expected = codec.decode(codec.dequantize(codec.quantize(codec.encode(noise(1, 9)), count)))
    torch.testing.assert_close(audio, expected)


def test_codes_survive_storage(codec: PvtCodec) -> None:
    codes = Codes(codec, 8)
    stored = codes.encode(noise(1, 9))
    raw = stored.numpy().astype("<i2").tobytes()
    back = torch.from_numpy(np.frombuffer(raw, "<i2").reshape(1, 8, 9).copy())
    assert torch.equal(codes.decode(back), codes.decode(stored))


@pytest.mark.parametrize("count", [0, 9])
def test_codebooks_that_the_codec_has_not(codec: PvtCodec, count: int) -> None:
    with pytest.raises(UserError, match="1 to 8"):
        Codes(codec, count)


def test_lengths_off_the_hop(codec: PvtCodec) -> None:
    with pytest.raises(UserError, match="frames of 320"):
        Latents(codec).encode(torch.zeros(1, 1, 1000))
    with pytest.raises(UserError, match="frames of 320"):
        Latents(codec).shape(1000)

"""Quantisation in training: the codes of the codec, straight-through gradients, commitment, a zero that stays."""

import pytest
import torch

from data_specs.codecs.quantizer import ResidualQuantizer
from training.codec.quantizer import TrainedQuantizer


def books():
    entries = (
        torch.randn(3, 16, 5, generator=torch.Generator().manual_seed(0))
        * torch.tensor([1.0, 0.3, 0.01])[:, None, None]
    )
    entries[:, 0] = 0
    return entries


def latents():
    return torch.randn(2, 5, 7, generator=torch.Generator().manual_seed(1)).requires_grad_()


@pytest.fixture
def quantizer():
    made = TrainedQuantizer(3, 16, 5)
    assert not made.initialized
    made.initialize(books())
    return made


@pytest.mark.parametrize("count", [1, 2, 3])
def test_it_quantises_as_the_codec_does(quantizer, count):
    codec = ResidualQuantizer(books())
    expected = codec.decode(codec.encode(latents().detach(), count))
    assert quantizer.initialized
    torch.testing.assert_close(quantizer.codebooks, books())
    torch.testing.assert_close(quantizer(latents(), count).latents, expected)


def test_gradients_pass_straight_through(quantizer):
    z = latents()
    weights = torch.randn(2, 5, 7)
    (quantizer(z, 3).latents * weights).sum().backward()
    torch.testing.assert_close(z.grad, weights)
    assert quantizer.entries.grad is None


def test_commitment_moves_latents_and_the_codebook_loss_entries(quantizer):
    z = latents()
    quantized = quantizer(z, 2)
    frames = z.detach().transpose(1, 2)
    first = books()[0][torch.cdist(frames, books()[0]).argmin(-1)]
    second = books()[1][torch.cdist(frames - first, books()[1]).argmin(-1)]
    expected = (frames - first).square().mean((1, 2)) + (frames - first - second).square().mean((1, 2))
    torch.testing.assert_close(quantized.commitment, expected)
    torch.testing.assert_close(quantized.codebook, expected)
    quantized.commitment.sum().backward(retain_graph=True)
    assert quantizer.entries.grad is None
    torch.testing.assert_close(z.grad.transpose(1, 2), 2 * (2 * frames - 2 * first - second) / 35)
    z.grad = None
    quantized.codebook.sum().backward()
    assert z.grad is None
    assert quantizer.entries.grad[:2].any()
    assert not quantizer.entries.grad[2].any()


def test_no_codebooks_leave_the_latents(quantizer):
    z = latents()
    quantized = quantizer(z, 0)
    assert torch.equal(quantized.latents, z)
    assert not quantized.commitment.any()
    quantized.codebook.sum().backward()
    assert not quantizer.entries.grad.any()  # there is one, as ranks need


def test_the_zero_entry_stays(quantizer):
    optimizer = torch.optim.Adam(quantizer.parameters(), lr=0.1)
    for _ in range(3):
        optimizer.zero_grad()
        quantizer(latents() * 0.01, 3).codebook.sum().backward()
        optimizer.step()
    assert not quantizer.codebooks[:, 0].any()
    assert not torch.equal(quantizer.codebooks, books())
    silence = torch.zeros(1, 5, 2)
    assert not quantizer(silence, 3).latents.any()

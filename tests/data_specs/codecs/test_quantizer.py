"""The residual quantiser against a search written out in float64, and what it promises about batches."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from data_specs.codecs.quantizer import ResidualQuantizer
from data_specs.errors import UserError

BOOKS, ENTRIES, CHANNELS = 6, 64, 16


def books(seed: int = 0) -> Tensor:
    values = torch.randn(BOOKS, ENTRIES, CHANNELS, generator=torch.Generator().manual_seed(seed))
    values *= 0.7 ** torch.arange(BOOKS)[:, None, None]
    values[:, 0] = 0
    return values


def latents(batch: int, frames: int, seed: int = 1) -> Tensor:
    return torch.randn(batch, CHANNELS, frames, generator=torch.Generator().manual_seed(seed))


def test_codes_are_the_nearest_entries() -> None:
    codes = ResidualQuantizer(books()).encode(latents(2, 50), BOOKS)
    assert codes.shape == (2, BOOKS, 50)
    assert codes.dtype == torch.int64
    entries = books().double().numpy()
    for clip, found in zip(latents(2, 50).double().numpy(), codes.numpy(), strict=True):
        residual = clip.T
        for book, row in zip(entries, found, strict=True):
            distance = np.linalg.norm(residual[:, None] - book[None], axis=2)
            chosen = distance[np.arange(50), row]
            np.testing.assert_allclose(chosen, distance.min(1), rtol=1e-5)
            residual = residual - book[row]


def test_decoding_is_the_sum_of_the_entries() -> None:
    codes = torch.randint(0, ENTRIES, (2, 4, 30), generator=torch.Generator().manual_seed(2))
    found = ResidualQuantizer(books()).decode(codes)
    assert found.shape == (2, CHANNELS, 30)
    expected = sum(books().double()[k][codes[:, k]] for k in range(4)).transpose(1, 2)
    torch.testing.assert_close(found.double(), expected, atol=1e-5, rtol=0)


def test_fewer_codebooks_are_the_first_ones() -> None:
    quantizer = ResidualQuantizer(books())
    assert torch.equal(quantizer.encode(latents(1, 40), BOOKS)[:, :2], quantizer.encode(latents(1, 40), 2))


def test_more_codebooks_come_nearer() -> None:
    quantizer = ResidualQuantizer(books())
    codes = quantizer.encode(latents(1, 200), BOOKS)
    errors = [float((quantizer.decode(codes[:, :k]) - latents(1, 200)).square().mean()) for k in range(1, BOOKS + 1)]
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 0.8 * errors[0]


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 6), st.integers(1, 130), st.integers(0, 2**31))
def test_codes_do_not_depend_on_the_batch(batch: int, frames: int, seed: int) -> None:
    quantizer = ResidualQuantizer(books())
    together = quantizer.encode(latents(batch, frames, seed), BOOKS)
    for index in range(batch):
        assert torch.equal(together[index], quantizer.encode(latents(batch, frames, seed)[index : index + 1], BOOKS)[0])


def test_zero_stays_zero() -> None:
    quantizer = ResidualQuantizer(books())
    codes = quantizer.encode(torch.zeros(1, CHANNELS, 5), BOOKS)
    assert not codes.any()
    assert not quantizer.decode(codes).any()


@pytest.mark.parametrize("count", [0, BOOKS + 1])
def test_codebooks_that_are_not_there(count: int) -> None:
    quantizer = ResidualQuantizer(books())
    with pytest.raises(UserError, match="1 to 6"):
        quantizer.encode(latents(1, 3), count)
    with pytest.raises(UserError, match="1 to 6"):
        quantizer.decode(torch.zeros(1, count, 3, dtype=torch.int64))

"""The closed-form fit against scikit-learn, known answers and itself."""

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from data_specs.codecs import load_codec, mdct
from data_specs.codecs.pvt import PvtCodec
from data_specs.errors import UserError
from training.codec.fit import fit, write
from training.codec.kmeans import codebook, nearest
from training.codec.methods import PvtMethod

SMALL = PvtMethod(power=0.5, channels=24, codebooks=4, bins=64, frames=4000, iterations=8)


def tones(seed: int, clips: int = 100) -> Callable[[], Iterator[Tensor]]:
    """Half-second clips of three decaying harmonics, from 200 Hz to 400 Hz, loud and quiet."""

    def iterate() -> Iterator[Tensor]:
        for index in range(clips):
            rng = np.random.default_rng([seed, index])
            t = np.arange(38 * 320) / 24_000
            pitch, level = 200 * 2 ** rng.random(), 10 ** rng.uniform(-2, -0.3)
            sound = sum(np.sin(2 * math.pi * pitch * k * t + rng.random() * 6) / k for k in (1, 2, 3))
            yield torch.from_numpy(level * sound * np.exp(-3 * t)).float()[None, None]

    return iterate


@pytest.fixture(scope="module")
def fitted() -> dict[str, Tensor]:
    return fit(tones(1), SMALL)


def snr(audio: Tensor, decoded: Tensor) -> float:
    return float(10 * torch.log10(audio.square().sum() / (audio - decoded).square().sum()))


def test_basis_is_orthonormal_and_spans_the_principal_subspace(fitted: dict[str, Tensor]) -> None:
    basis = fitted["basis"].double()
    torch.testing.assert_close(basis.T @ basis, torch.eye(24, dtype=torch.float64), atol=1e-5, rtol=0)
    kernel = mdct.kernel(mdct.sine_window()).float()
    frames = torch.cat([mdct.analyse(audio, kernel)[0].T for audio in tones(1)()]).double().numpy()
    right = np.linalg.svd(frames, full_matrices=False)[2][:24]
    # The same subspace: cosines of all principal angles are 1.
    np.testing.assert_allclose(np.linalg.svd(right @ basis.numpy())[1][:16], 1, atol=1e-3)


def test_codec_generalises_to_other_clips(fitted: dict[str, Tensor]) -> None:
    codec = PvtCodec(fitted, SMALL.power)
    from_latents: list[float] = []
    from_codes: dict[int, list[float]] = {1: [], 2: [], 4: []}
    for audio in tones(2, clips=12)():
        latents = codec.encode(audio)
        codes = codec.quantize(latents, 4)
        from_latents.append(snr(audio, codec.decode(latents)))
        for count, values in from_codes.items():
            values.append(snr(audio, codec.decode(codec.dequantize(codes[:, :count]))))
    assert np.mean(from_latents) > 20
    one, two, four = (np.mean(values) for values in from_codes.values())
    assert one > 2
    assert two > one + 1
    assert four > 6


def test_zero_entries_and_no_dead_ones(fitted: dict[str, Tensor]) -> None:
    books = fitted["codebooks"]
    assert books.shape == (4, 64, 24)
    assert not books[:, 0].any()
    for book in books:
        assert len(torch.unique(book, dim=0)) == 64
    codec = PvtCodec(fitted, SMALL.power)
    codes = torch.cat([codec.quantize(codec.encode(audio), 4) for audio in tones(1)()], -1)[0]
    assert all(len(row.unique()) >= 63 for row in codes)  # on what they were fitted on; silence may be missing


def test_same_clips_same_bits(fitted: dict[str, Tensor]) -> None:
    again = fit(tones(1), SMALL)
    assert all(torch.equal(fitted[name], again[name]) for name in fitted)
    other = fit(tones(1), replace(SMALL, seed=1))
    assert not torch.equal(fitted["codebooks"], other["codebooks"])


@pytest.mark.parametrize("window", ["vorbis", "kaiser_bessel_4"])
def test_other_windows_weights_and_powers_decode_as_well(window: str) -> None:
    options = replace(SMALL, window=window, weighting=0.4, power=1.0)
    codec = PvtCodec(fit(tones(1), options), options.power)
    audio = next(tones(2)())
    assert snr(audio, codec.decode(codec.encode(audio))) > 20


def test_weights_file_and_back(fitted: dict[str, Tensor], tmp_path: Path) -> None:
    write(tmp_path / "a.safetensors", fitted, SMALL, "mine")
    write(tmp_path / "b.safetensors", fitted, SMALL, "mine")
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()
    codec = load_codec(str(tmp_path / "a.safetensors"))
    assert codec.name == "mine"
    audio = next(tones(2)())
    assert torch.equal(codec.encode(audio), PvtCodec(fitted, SMALL.power).encode(audio))


def test_silence_cannot_be_fitted() -> None:
    with pytest.raises(UserError, match="only silence"):
        fit(lambda: iter([torch.zeros(1, 1, 3200)]), SMALL)


def test_too_little_sound_is_one_sentence() -> None:
    with pytest.raises(UserError, match="fit on more audio"):
        fit(lambda: iter([next(tones(1)())[..., :3200]]), SMALL)


def test_kmeans_finds_separate_clusters() -> None:
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(15, 8)) * 10
    points = torch.from_numpy(centres[rng.integers(0, 15, 3000)] + 0.1 * rng.normal(size=(3000, 8))).float()
    found = codebook(points, 16, 20, torch.Generator().manual_seed(0)).numpy()
    assert not found[0].any()
    distance = np.linalg.norm(found[1:, None] - centres[None], axis=2)
    assert np.median(distance.min(0)) < 0.1


def test_kmeans_is_about_as_good_as_scikit_learn() -> None:
    from sklearn.cluster import KMeans

    points = torch.randn(4000, 6, generator=torch.Generator().manual_seed(0))
    ours = nearest(points, codebook(points, 65, 15, torch.Generator().manual_seed(0)))[1].sum()
    theirs = KMeans(64, n_init=1, max_iter=15, random_state=0).fit(points.numpy()).inertia_
    assert float(ours) < 1.02 * theirs


def test_nearest_is_the_nearest() -> None:
    generator = torch.Generator().manual_seed(0)
    points, entries = torch.randn(50, 5, generator=generator), torch.randn(9, 5, generator=generator)
    index, distance = nearest(points, entries)
    expected = torch.cdist(points.double(), entries.double()).square()
    torch.testing.assert_close(distance.double(), expected.min(1).values, atol=1e-5, rtol=1e-5)
    assert torch.equal(index, expected.argmin(1))

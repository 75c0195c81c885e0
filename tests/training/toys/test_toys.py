"""First experiments: the distance against known values, the data, and one short run that writes what it should."""

import gzip
import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from data_specs.errors import UserError
from training import toys
from training.toys import experiments
from training.toys.data import code_roll, digits, read_idx_images, swiss_roll
from training.toys.distance import compared, sliced_wasserstein


def test_distance_of_a_shift_is_known() -> None:
    """A shift by v moves every projection by <v, u>; in D dimensions the root mean square over u is |v| / sqrt(D)."""
    cloud = torch.randn(400, 3)
    shift = torch.tensor([0.3, -0.4, 1.2])
    found = sliced_wasserstein(cloud, cloud + shift, directions=4000)
    assert found == pytest.approx(1.3 / math.sqrt(3), rel=0.03)


def test_distance_does_not_see_order() -> None:
    cloud = torch.randn(100, 2)
    assert sliced_wasserstein(cloud, cloud[torch.randperm(100)]) == pytest.approx(0, abs=1e-12)


def test_distance_of_scaled_gaussians_is_known() -> None:
    a, b = torch.randn(20_000, 1), 2 * torch.randn(20_000, 1)
    assert sliced_wasserstein(a, b, directions=4) == pytest.approx(1.0, abs=0.05)


def test_samples_of_the_data_are_as_far_as_its_halves() -> None:
    data = torch.randn(6000, 2)
    distance, halves = compared(torch.randn(3000, 2), data, 1000)
    assert 0.6 < distance / halves < 1.6
    far, _ = compared(torch.randn(3000, 2) * 1.3, data, 1000)
    assert far > 2 * halves


@pytest.mark.parametrize("make", [swiss_roll((2,)), swiss_roll((1, 2)), digits])
def test_continuous_data_has_unit_variance(make) -> None:
    data = make(None)
    assert float(data.items.std()) == pytest.approx(1, abs=0.01)
    assert data.count == (898 if data.items.ndim == 4 else 1000)
    assert data.points(data.items[:5]).shape == (5, 20 if data.items.ndim == 4 else 2)


def test_codes_fill_their_classes() -> None:
    data = code_roll(None)
    assert data.items.shape[1:] == (2, 1)
    assert data.items.dtype == torch.int64
    assert [int(data.items.min()), int(data.items.max())] == [0, 39]


def idx_bytes(images: np.ndarray) -> bytes:
    return np.array([0x803, *images.shape], ">u4").tobytes() + images.tobytes()


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_mnist_from_a_file(tmp_path: Path, pack) -> None:
    images = np.random.default_rng(0).integers(0, 256, (50, 28, 28), np.uint8)
    (tmp_path / "images").write_bytes(pack(idx_bytes(images)))
    assert np.array_equal(read_idx_images(tmp_path / "images"), images)
    assert digits(tmp_path / "images").items.shape == (50, 1, 28, 28)


@pytest.mark.parametrize("content", [b"", b"not images at all", idx_bytes(np.zeros((2, 4, 4), np.uint8))[:-1]])
def test_other_files_are_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "images").write_bytes(content)
    with pytest.raises(UserError, match="must be the file train-images-idx3-ubyte"):
        read_idx_images(tmp_path / "images")
    with pytest.raises(UserError, match="must be the file train-images-idx3-ubyte, gzipped or not"):
        read_idx_images(tmp_path / "nothing")


@pytest.mark.parametrize("name", toys.NAMES)
def test_every_experiment_runs_and_draws(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    """A few steps of each: everything but the quality."""
    toy = experiments.TOYS[name]
    smaller = {"channels": 8} | ({"blocks": 1} if toy.kind == "images" else {})
    options = toy.options | {"steps": 5}
    short = replace(toy, steps=3, samples=1000, batch=16, options=options, network=toy.network | smaller)
    monkeypatch.setitem(experiments.TOYS, name, short)
    numbers = toys.run(tmp_path, [name])[name]
    assert (tmp_path / f"{name}.png").stat().st_size > 10_000
    assert json.loads((tmp_path / "toys.json").read_text())[name] == numbers
    assert numbers["ratio"] == pytest.approx(numbers["distance"] / numbers["halves"])
    assert f"{name}: sliced Wasserstein distance" in capsys.readouterr().out


def test_names_agree() -> None:
    assert tuple(experiments.TOYS) == toys.NAMES
    with pytest.raises(UserError, match=r"ONLY= must be one of .*; got 'moons'"):
        toys.run(Path("unused"), ["moons"])
    assert not Path("unused").exists()


@pytest.mark.slow
@pytest.mark.parametrize("name", toys.NAMES)
def test_samples_are_within_twice_the_distance_of_halves(name: str, tmp_path: Path) -> None:
    assert toys.run(tmp_path, [name])[name]["ratio"] <= 2

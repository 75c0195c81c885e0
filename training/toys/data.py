"""Data of the experiments. N items, n items of a comparison, D dimensions of a point."""

import gzip
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from data_specs.arrays import Shape
from data_specs.errors import UserError

CODE_CLASSES = 40


@dataclass(frozen=True)
class ToyData:
    """Items of a data set, floats of unit variance or int64 codes, and the map from items to points, for distances."""

    items: Tensor  # [N, *shape]
    count: int  # number of points in each set of a comparison
    points: Callable[[Tensor], Tensor]  # [n, *shape] -> [n, D]
    classes: int | None = None  # number of classes of a code; None for continuous data


def _roll(count: int, seed: int) -> Tensor:
    """Return `count` points of scikit-learn's swiss roll without the coordinate along its axis, float32 [count, 2].

    Both coordinates have mean 0 and standard deviation 1.
    """
    from sklearn.datasets import make_swiss_roll

    points, _ = make_swiss_roll(count, noise=0.4, random_state=seed)
    flat = torch.from_numpy(points[:, [0, 2]]).float()
    return (flat - flat.mean(0)) / flat.std(0)


def swiss_roll(shape: Shape) -> Callable[[Path | None], ToyData]:
    """Return a function that makes 20 000 points of the roll (seed 0), each reshaped to `shape`; its path is unused."""

    def make(path: Path | None) -> ToyData:
        return ToyData(_roll(20_000, 0).view(-1, *shape), 1000, lambda items: items.flatten(1))

    return make


def code_roll(path: Path | None) -> ToyData:
    """Return 20 000 points of the roll with seed 0 as two codes in 0..39, int64 [N, 2, 1]; `path` is not used.

    Codes are the cells of a grid of 40 x 40. For distances, they are divided by 40.
    """
    roll = _roll(20_000, 0)
    low, high = roll.min(0).values, roll.max(0).values
    codes = ((roll - low) / (high - low) * CODE_CLASSES).long().clamp(max=CODE_CLASSES - 1)
    return ToyData(codes.unsqueeze(2), 1000, lambda items: items.flatten(1) / CODE_CLASSES, CODE_CLASSES)


def digits(path: Path | None) -> ToyData:
    """Return the 1797 digits of scikit-learn (8 x 8), or the images of the IDX file `path`, float32 [N, 1, H, W].

    Mean and standard deviation of all pixels together are 0 and 1. For distances, an item is projected on the first 20
    principal components of the first 5000 items.

    Raises:
        UserError: no such file, or another format.
    """
    if path is None:
        from sklearn.datasets import load_digits

        images = load_digits().images.astype(np.float32)
    else:
        images = read_idx_images(path).astype(np.float32)
    items = torch.from_numpy(images).unsqueeze(1)
    items = (items - items.mean()) / items.std()
    flat = items.flatten(1)
    centre = flat.mean(0)
    axes = torch.linalg.svd((flat - centre)[:5000], full_matrices=False).Vh[:20]
    return ToyData(items, min(1000, len(items) // 2), lambda x: (x.flatten(1) - centre) @ axes.T)


def read_idx_images(path: Path) -> np.ndarray:
    """Return the images of an IDX file (the format of MNIST), gzipped or not, as a read-only array uint8 [N, H, W].

    Raises:
        UserError: no such file, or another format.
    """
    if not path.is_file():
        raise UserError(f"MNIST= must be the file train-images-idx3-ubyte, gzipped or not, got {path}")
    content = path.read_bytes()
    try:
        content = gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content
        magic, count, height, width = (int(n) for n in np.frombuffer(content, ">u4", 4))
        if magic != 0x803:
            raise ValueError(f"magic number {magic}, expected 2051")
        return np.frombuffer(content, np.uint8, count * height * width, 16).reshape(count, height, width)
    except (OSError, EOFError, ValueError) as error:
        raise UserError(f"MNIST= must be the file train-images-idx3-ubyte, got {path} ({error})") from error

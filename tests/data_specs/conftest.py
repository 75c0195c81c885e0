"""Sounds made here, for the codecs."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor


@pytest.fixture(scope="session")
def phrase() -> Callable[..., Tensor]:
    """A made-up horn: eight notes of ten harmonics with attack, decay and vibrato, float32 [1, 1, N]."""

    def make(seconds: float = 8.0) -> Tensor:
        rng = np.random.default_rng(5)
        t = np.arange(int(seconds * 24_000)) / 24_000
        audio = np.zeros_like(t)
        for index, pitch in enumerate(rng.integers(48, 73, 8)):
            s = t - index * seconds / 8
            envelope = np.where(s > 0, (1 - np.exp(-60 * s)) * np.exp(-3 * s), 0)
            phase = 2 * math.pi * 440 * 2 ** ((pitch - 69) / 12) * s + 0.1 * np.sin(2 * math.pi * 5 * s)
            audio += envelope * sum(0.6**k * np.sin(k * phase + k) for k in range(1, 11))
        return torch.from_numpy(0.2 * audio).float()[None, None]

    return make

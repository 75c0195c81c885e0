"""Where random numbers come from. A draw is a function of (seed, index), whatever the batch."""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor

Device = torch.device | str


class Noise(ABC):
    """A source of draws for a batch of clips. Every method returns [B, *shape] on `device`; calls follow each other."""

    batch: int
    device: Device

    @abstractmethod
    def _draw(self, shape: tuple[int, ...], dtype: torch.dtype, fill: str, *arguments: float) -> Tensor: ...

    def normal(self, shape: tuple[int, ...]) -> Tensor:
        """Standard normal, float32."""
        return self._draw(shape, torch.float32, "normal_")

    def uniform(self, shape: tuple[int, ...] = ()) -> Tensor:
        """Uniform in [0, 1), float32."""
        return self._draw(shape, torch.float32, "uniform_")

    def integers(self, high: int, shape: tuple[int, ...]) -> Tensor:
        """Uniform in 0..high-1, int64."""
        return self._draw(shape, torch.int64, "random_", 0, high)


class PerClipNoise(Noise):
    """One generator for each clip, seeded by (seed, stream, index): a clip draws the same in any batch or rank.

    Numbers are drawn on the CPU unless asked otherwise, so they are also the same whatever device they go to.

    Args:
        seed: of the run.
        indices: one number for each clip of the batch; in training its position in the run, in sampling the sample's.
        stream: tells uses apart (`train`, `valid`, `sample`), so that equal indices do not share draws.
        device: where draws are put.
        drawn_on: where they are drawn; kinds of device draw different numbers, and a GPU draws large ones faster.
    """

    def __init__(
        self, seed: int, indices: Sequence[int], stream: str, device: Device = "cpu", drawn_on: Device = "cpu"
    ) -> None:
        self.batch, self.device, self._drawn_on = len(indices), device, drawn_on
        # promise: itself-noise-function-seed
        self._generators = [torch.Generator(drawn_on).manual_seed(_key(seed, stream, index)) for index in indices]

    def _draw(self, shape: tuple[int, ...], dtype: torch.dtype, fill: str, *arguments: float) -> Tensor:
        drawn = torch.empty((self.batch, *shape), dtype=dtype, device=self._drawn_on)
        for clip, generator in zip(drawn, self._generators, strict=True):
            getattr(clip, fill)(*arguments, generator=generator)
        return drawn.to(self.device, non_blocking=True)


class BatchNoise(Noise):
    """One generator for the whole batch: faster for thousands of small items, but another batch draws otherwise."""

    def __init__(self, seed: int, batch: int, device: Device = "cpu") -> None:
        self.batch, self.device = batch, device
        self._generator = torch.Generator(device).manual_seed(seed)

    def _draw(self, shape: tuple[int, ...], dtype: torch.dtype, fill: str, *arguments: float) -> Tensor:
        drawn = torch.empty((self.batch, *shape), dtype=dtype, device=self.device)
        getattr(drawn, fill)(*arguments, generator=self._generator)
        return drawn


def _key(seed: int, stream: str, index: int) -> int:
    """63 bits that depend on all three; neighbouring seeds and indices give unrelated generators."""
    # promise: itself-noise-function-seed-2
    digest = hashlib.blake2b(f"{seed}/{stream}/{index}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1

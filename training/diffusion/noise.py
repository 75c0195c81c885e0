"""Sources of random numbers. A draw is a function of (seed, index), independent of the batch."""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor

Device = torch.device | str


class Noise(ABC):
    """Draws for a batch of clips. Every method returns the next [B, *shape] on `device`."""

    batch: int
    device: Device

    @abstractmethod
    def _draw(self, shape: tuple[int, ...], dtype: torch.dtype, fill: str, *arguments: float) -> Tensor: ...

    def normal(self, shape: tuple[int, ...]) -> Tensor:
        """Draw standard normal numbers, float32."""
        return self._draw(shape, torch.float32, "normal_")

    def uniform(self, shape: tuple[int, ...] = ()) -> Tensor:
        """Draw uniform numbers in [0, 1), float32."""
        return self._draw(shape, torch.float32, "uniform_")

    def integers(self, high: int, shape: tuple[int, ...]) -> Tensor:
        """Draw uniform integers in 0..high-1, int64."""
        return self._draw(shape, torch.int64, "random_", 0, high)


class PerClipNoise(Noise):
    """One generator for each clip, seeded by (seed, stream, index): draws depend on neither batch nor rank.

    Numbers are drawn on the CPU by default, so that they do not depend on the device either.

    Args:
        seed: of the run.
        indices: one number per clip: its position in a training run, or the number of a sample.
        stream: name of the use (`train`, `valid`, `sample`), so that equal indices do not share draws.
        device: of the results.
        drawn_on: device of the generators; kinds of device draw different numbers, a GPU draws large tensors faster.
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
    """One generator for the whole batch: fast for thousands of small items; draws depend on the batch size."""

    def __init__(self, seed: int, batch: int, device: Device = "cpu") -> None:
        self.batch, self.device = batch, device
        self._generator = torch.Generator(device).manual_seed(seed)

    def _draw(self, shape: tuple[int, ...], dtype: torch.dtype, fill: str, *arguments: float) -> Tensor:
        drawn = torch.empty((self.batch, *shape), dtype=dtype, device=self.device)
        getattr(drawn, fill)(*arguments, generator=self._generator)
        return drawn


def _key(seed: int, stream: str, index: int) -> int:
    """Hash all three to 63 bits, so that neighboring seeds and indices give unrelated generators."""
    # promise: itself-noise-function-seed-2
    digest = hashlib.blake2b(f"{seed}/{stream}/{index}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1

"""Random numbers of a batch of clips. B clips."""

import hashlib
import math
from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor

from data_specs.arrays import Shape

Device = torch.device | str


class Noise(ABC):
    """Random numbers of a batch of B = `batch` clips. Every method returns the next numbers [B, *shape] on `device`."""

    batch: int
    device: Device

    @abstractmethod
    def _draw(self, shape: Shape, dtype: torch.dtype, fill: str, *arguments: float) -> Tensor: ...

    def normal(self, shape: Shape) -> Tensor:
        """Draw standard normal numbers, float32 [B, *shape]."""
        return self._draw(shape, torch.float32, "normal_")

    def uniform(self, shape: Shape = ()) -> Tensor:
        """Draw uniform numbers in [0, 1), float32 [B, *shape]."""
        return self._draw(shape, torch.float32, "uniform_")

    def integers(self, high: int, shape: Shape) -> Tensor:
        """Draw uniform integers in 0..high-1, int64 [B, *shape]."""
        return self._draw(shape, torch.int64, "random_", 0, high)


class PerClipNoise(Noise):
    """Random numbers from one generator per clip, seeded by (seed, stream, index).

    The numbers of a clip do not depend on the other clips of the batch. They are drawn on the CPU, so that they do not
    depend on the device either.

    Args:
        seed: seed of the run or of the samples.
        indices: index of each clip: its position in a training run, or the number of a sample.
        stream: name of the use (`train`, `valid`, `sample`), so that each use has other numbers for the same index.
        device: device of the results.
    """

    def __init__(self, seed: int, indices: Sequence[int], stream: str, device: Device = "cpu") -> None:
        self.batch, self.device = len(indices), device
        # promise: itself-noise-function-seed
        self._generators = [torch.Generator().manual_seed(_key(seed, stream, index)) for index in indices]

    def _draw(self, shape: Shape, dtype: torch.dtype, fill: str, *arguments: float) -> Tensor:
        drawn = torch.empty((self.batch, *shape), dtype=dtype)
        for clip, generator in zip(drawn, self._generators, strict=True):
            getattr(clip, fill)(*arguments, generator=generator)
        return drawn.to(self.device, non_blocking=True)


class CounterNoise(Noise):
    """Random numbers as hashes of (key of the clip, number of the draw), computed on the device for all clips at once.

    The hash is SplitMix64 (Steele, Lea and Flood 2014), with the method of Box and Muller (1958) for normal numbers.
    The numbers of a clip do not depend on the other clips of the batch. They differ from those of `PerClipNoise`.
    Uniform numbers have 24 random bits. `high` of `integers` must be at most 2^31.

    Args:
        seed, indices, stream: as in `PerClipNoise`.
        device: device of the computation and the results.
    """

    def __init__(self, seed: int, indices: Sequence[int], stream: str, device: Device) -> None:
        self.batch, self.device, self._drawn = len(indices), device, 0
        keys = torch.tensor([_key(seed, stream, index) for index in indices])
        self._keys = keys.to(device, non_blocking=True)[:, None]

    def _draw(self, shape: Shape, dtype: torch.dtype, fill: str, *arguments: float) -> Tensor:
        count = math.prod(shape)
        if fill == "normal_":
            first, second = self._halves((count + 1) // 2)
            radius = ((first + 1).float() * 2.0**-32).log().mul_(-2).sqrt_()
            angle = second.float() * (2 * math.pi * 2.0**-32)
            drawn = torch.cat([radius * angle.cos(), radius * angle.sin()], 1)[:, :count]
        else:
            first, _ = self._halves(count)
            # 24 bits, all that float32 holds, so that 1 is never reached.
            drawn = (first >> 8).float() * 2.0**-24 if fill == "uniform_" else first * int(arguments[1]) >> 32
        return drawn.reshape(self.batch, *shape)

    def _halves(self, count: int) -> tuple[Tensor, Tensor]:
        """Return the upper and the lower 32 bits of the next `count` hashes of each clip, int64 [B, count] each.

        The number of hashes drawn rises by `count`.
        """
        counter = torch.arange(self._drawn + 1, self._drawn + count + 1, device=self.device)
        self._drawn += count
        bits = self._keys + counter * _signed(0x9E3779B97F4A7C15)  # int64 arithmetic wraps around
        bits = (bits ^ _shifted(bits, 30)) * _signed(0xBF58476D1CE4E5B9)
        bits = (bits ^ _shifted(bits, 27)) * _signed(0x94D049BB133111EB)
        bits = bits ^ _shifted(bits, 31)
        return _shifted(bits, 32), bits & 0xFFFFFFFF


class BatchNoise(Noise):
    """Random numbers from one generator for the whole batch, on `device`, fast for thousands of small items.

    The numbers of an item depend on the batch size and on the device.
    """

    def __init__(self, seed: int, batch: int, device: Device = "cpu") -> None:
        self.batch, self.device = batch, device
        self._generator = torch.Generator(device).manual_seed(seed)

    def _draw(self, shape: Shape, dtype: torch.dtype, fill: str, *arguments: float) -> Tensor:
        drawn = torch.empty((self.batch, *shape), dtype=dtype, device=self.device)
        getattr(drawn, fill)(*arguments, generator=self._generator)
        return drawn


def _signed(constant: int) -> int:
    """Return the signed integer with the same 64 bits as `constant`, an unsigned integer in 0..2^64-1."""
    return constant - 2**64 if constant >= 2**63 else constant


def _shifted(bits: Tensor, by: int) -> Tensor:
    """Return int64 `bits` shifted to the right by `by` bits (1..63), with zeros filled in even for negative ones."""
    return (bits >> by) & ((1 << (64 - by)) - 1)


def _key(seed: int, stream: str, index: int) -> int:
    """Return a hash of all three in 0..2^63-1, so that neighbouring seeds and indices give unrelated numbers."""
    # promise: itself-noise-function-seed-2
    digest = hashlib.blake2b(f"{seed}/{stream}/{index}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1

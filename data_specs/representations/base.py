"""The interface of data formats: audio -> stored array -> audio, and stored array <-> network input.

B batch, C channels, F frequency bins, N samples at 24 kHz, T frames. Audio is float32 [B, 1, N] in -1..1.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from data_specs.errors import UserError
from data_specs.formats import FORMATS
from data_specs.rates import frame_rate

STD_FLOOR = 0.02  # of the largest standard deviation, so that near-silent channels are not amplified to noise


class Representation(ABC):
    """One data format. Apart from kernels or weights, implementations hold no state."""

    name: str
    label: str  # for tables and pages: the name, and the codec in brackets if there is one
    hop: int  # samples between frames
    discrete: bool = False
    centred: bool = True  # whether network input has zero mean
    source: str = ""  # format whose arrays `derive` takes; empty if `encode` needs the audio
    one_scale: bool = False  # whether all channels share one scale, since their relative sizes are information

    @classmethod
    def build(cls, codec: str, codebooks: int) -> Self:
        """Return the representation. The base class ignores both arguments; encodec and disc use them.

        Raises:
            UserError: unknown codec, unavailable weights, or more codebooks than the codec has.
        """
        return cls()

    @property
    def seconds_per_clip(self) -> float:
        """Processor time in seconds to encode a clip on one core of a 2026 server, for the printed estimate."""
        return FORMATS[self.name].seconds

    @property
    def prefers_gpu(self) -> bool:
        """Whether encoding should run on a GPU where there is one; False in the base class."""
        return False

    @property
    def frame_rate(self) -> Fraction:
        """Frames per second, exactly."""
        return frame_rate(self.hop)

    @property
    def digest(self) -> str:
        """SHA-256, hex, of the kernels or weights behind this format; empty in the base class, which has none."""
        return ""

    @property
    def licence(self) -> str:
        """Licence of the weights behind this format; empty in the base class, which has none."""
        return ""

    @abstractmethod
    def frames(self, samples: int) -> int:
        """Return the number of frames T of a clip of `samples` samples.

        Raises:
            UserError: latents and codes: not a positive multiple of the hop.
        """

    @abstractmethod
    def shape(self, samples: int) -> tuple[int, ...]:
        """Return the shape of the stored array of one clip of `samples` samples."""

    @abstractmethod
    def encode(self, audio: Tensor) -> Tensor:
        """Encode float32 [B, 1, N] to [B, *shape(N)], int16 for codes, else float32; no gradient."""

    def derive(self, encoded: Tensor) -> Tensor:
        """Return what `encode` returns, from what the format `source` makes of the same audio.

        Raises:
            NotImplementedError: the format has no `source`.
        """
        raise NotImplementedError(f"{self.name} derives from no other format")

    @abstractmethod
    def decode(self, stored: Tensor, gradient: bool = False) -> Tensor:
        """Decode [B, *shape(N)] of any stored dtype to audio, float32 [B, 1, N].

        With `gradient` it is differentiable with respect to `stored`, unless that is codes.
        """

    def samples(self, frames: int) -> int:
        """Return the number of samples that `frames` frames decode to."""
        return frames * self.hop

    def pooled_axes(self) -> tuple[int, ...]:
        """Return the axes of one clip's stored array whose values share mean and standard deviation: here the last."""
        return (-1,)

    def statistics(self, stored: np.ndarray) -> "Statistics":
        """Return float64 sums of stored arrays [B, *shape] over the clips and the pooled axes, which keep length 1."""
        axes = (0, *(axis % (stored.ndim - 1) + 1 for axis in self.pooled_axes()))
        count = int(np.prod([stored.shape[axis] for axis in axes]))
        values = stored.astype(np.float64)
        total = values.sum(axis=axes, keepdims=True)[0]
        squares = np.multiply(values, values, out=values).sum(axis=axes, keepdims=True)[0]
        return Statistics(count, total, squares)

    def scaling(self, statistics: "Statistics", sigma_data: float, power: float = 1.0) -> "Scaling":
        """Return the scaling of stored values with the given statistics to standard deviation `sigma_data`.

        Companding by `power` makes that approximate; see `Scaling`.

        Raises:
            UserError: all values of the statistics are equal.
        """
        return Scaling.fit(statistics, sigma_data, power, self.centred, self.one_scale)


@dataclass(frozen=True)
class Statistics:
    """Sums over clips and pooled axes of stored arrays; `+` merges those of two sets of clips.

    `count` is the number of values in each sum; `total` and `squares` are the sums of the values and of their squares,
    float64 [C, 1], or [1, F, 1] for cqt.
    """

    count: int
    total: np.ndarray
    squares: np.ndarray

    def __add__(self, other: "Statistics") -> "Statistics":
        return Statistics(self.count + other.count, self.total + other.total, self.squares + other.squares)

    @property
    def mean(self) -> np.ndarray:
        """Mean of each channel or bin, in the shape of `total`."""
        return self.total / self.count

    @property
    def std(self) -> np.ndarray:
        """Population standard deviation of each channel or bin, in the shape of `total`."""
        return np.sqrt(np.maximum(self.squares / self.count - np.square(self.mean), 0.0))

    @property
    def rms(self) -> np.ndarray:
        """Root mean square of each channel or bin, in the shape of `total`."""
        return np.sqrt(self.squares / self.count)

    def to_json(self) -> dict[str, Any]:
        """Return the statistics as JSON values without loss."""
        return {"count": self.count, "total": self.total.tolist(), "squares": self.squares.tolist()}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> "Statistics":
        """Return the statistics that `to_json` wrote.

        Raises:
            UserError: a field is missing or is not a number.
        """
        try:
            total, squares = (np.asarray(value[key], dtype=np.float64) for key in ("total", "squares"))
            return cls(int(value["count"]), total, squares)
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(
                f"the statistics in dataset.json cannot be read ({error}); build the dataset again"
            ) from error


@dataclass(frozen=True)
class Scaling:
    """Map between stored values x and network input: c((x - mean) / std) * sigma_data.

    `mean` and `std` are per channel or bin, broadcast over the stored array; `fit` limits `std` from below.
    c(u) = sign(u) |u|^power compands and maps 1 to 1; powers below 1 compress peaks, so that the standard deviation of
    the result is sigma_data only approximately.
    """

    mean: np.ndarray
    std: np.ndarray  # already floored
    sigma_data: float
    power: float = 1.0
    _on: dict[torch.device, tuple[Tensor, ...]] = field(default_factory=dict, init=False, repr=False, compare=False)

    @classmethod
    def fit(
        cls,
        statistics: Statistics,
        sigma_data: float,
        power: float = 1.0,
        centred: bool = True,
        one_scale: bool = False,
    ) -> "Scaling":
        """Return the scaling that gives each channel standard deviation `sigma_data`, exactly only for `power` 1.

        A standard deviation below 2 % of the largest is replaced by these 2 %. Without `centred` the mean is 0 and the
        root mean square replaces the standard deviation. With `one_scale` each channel's standard deviation is replaced
        by the root mean square of those of all channels.

        Raises:
            UserError: no channel varies.
        """
        mean = statistics.mean if centred else np.zeros_like(statistics.total)
        std = statistics.std if centred else statistics.rms
        if one_scale:
            std = np.full_like(std, np.sqrt(np.square(std).mean()))
        if not std.max() > 0:
            raise UserError("the train split must vary to be scaled, got one value only; build the dataset again")
        # promise: model-target-spread-floor
        return cls(mean, np.maximum(std, STD_FLOOR * std.max()), sigma_data, power)

    def to_model(self, stored: Tensor) -> Tensor:
        """Scale stored values [B, *shape], of any dtype, to network input, float32 [B, *shape]."""
        mean, std = self._tensors(stored.device)
        unit = (stored.float() - mean) / std
        # promise: model-target-spread-floor-2
        return _companded(unit, self.power) * self.sigma_data

    def from_model(self, x: Tensor) -> Tensor:
        """Return the stored values, float32 [B, *shape], of network input [B, *shape]: the inverse of `to_model`."""
        mean, std = self._tensors(x.device)
        return _companded(x.float() / self.sigma_data, 1 / self.power) * std + mean

    def _tensors(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """Return mean and standard deviation on `device`, float32; the copies are kept for later calls."""
        if device not in self._on:
            self._on[device] = tuple(
                torch.as_tensor(v, dtype=torch.float32, device=device) for v in (self.mean, self.std)
            )
        mean, std = self._on[device]
        return mean, std


def _companded(x: Tensor, power: float) -> Tensor:
    return x if power == 1.0 else x.sign() * x.abs().pow(power)

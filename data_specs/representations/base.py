"""The interface of data formats: audio -> stored array -> audio, and stored array <-> network input.

B batch, C channels, N samples, T frames. Audio is float32 [B, 1, N] in -1..1.
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
    """One data format. Implementations are stateless apart from their kernels or weights."""

    name: str
    label: str  # for tables and pages: the name, and the codec in brackets if there is one
    hop: int  # samples between frames
    discrete: bool = False
    centred: bool = True  # whether network input has zero mean
    source: str = ""  # format whose arrays `derive` takes; empty if `encode` needs the audio
    one_scale: bool = False  # whether all channels share one scale, since their relative sizes are information

    @classmethod
    def build(cls, codec: str, codebooks: int) -> Self:
        """Return the representation; only those of codecs use the codec's name and number of codebooks.

        Raises:
            UserError: unknown codec, or unavailable weights.
        """
        return cls()

    @property
    def seconds_per_clip(self) -> float:
        """Processor time per clip on one core of a 2026 server, for the printed estimate."""
        return FORMATS[self.name].seconds

    @property
    def prefers_gpu(self) -> bool:
        """Whether encoding should run on a GPU where there is one."""
        return False

    @property
    def frame_rate(self) -> Fraction:
        """Frames per second, exactly."""
        return frame_rate(self.hop)

    @property
    def digest(self) -> str:
        """SHA-256 of the kernels or weights behind this format; empty if there are none."""
        return ""

    @property
    def licence(self) -> str:
        """Licence of the weights behind this format; empty if there are none."""
        return ""

    @abstractmethod
    def frames(self, samples: int) -> int:
        """Return the number of frames T of a clip of `samples` samples."""

    @abstractmethod
    def shape(self, samples: int) -> tuple[int, ...]:
        """Return the shape of the stored array of one clip of `samples` samples."""

    @abstractmethod
    def encode(self, audio: Tensor) -> Tensor:
        """Encode float32 [B, 1, N] to [B, *shape(N)], float32 or int16, without gradient."""

    def derive(self, encoded: Tensor) -> Tensor:
        """Return what `encode` returns, from the arrays that the format `source` makes of the same audio."""
        raise NotImplementedError(f"{self.name} derives from no other format")

    @abstractmethod
    def decode(self, stored: Tensor, gradient: bool = False) -> Tensor:
        """Decode [B, *shape(N)] of any stored dtype to audio, float32 [B, 1, N]; differentiable with `gradient`."""

    def samples(self, frames: int) -> int:
        """Return the number of samples N that `frames` frames decode to."""
        return frames * self.hop

    def pooled_axes(self) -> tuple[int, ...]:
        """Return the axes of a stored array [*shape] that share mean and standard deviation."""
        return (-1,)

    def statistics(self, stored: np.ndarray) -> "Statistics":
        """Return float64 sums of stored arrays [B, *shape], one value per channel with a scale of its own."""
        axes = (0, *(axis % (stored.ndim - 1) + 1 for axis in self.pooled_axes()))
        count = int(np.prod([stored.shape[axis] for axis in axes]))
        values = stored.astype(np.float64)
        total = values.sum(axis=axes, keepdims=True)[0]
        squares = np.multiply(values, values, out=values).sum(axis=axes, keepdims=True)[0]
        return Statistics(count, total, squares)

    def scaling(self, statistics: "Statistics", sigma_data: float, power: float = 1.0) -> "Scaling":
        """Return the scaling of data with these statistics."""
        return Scaling.fit(statistics, sigma_data, power, self.centred, self.one_scale)


@dataclass(frozen=True)
class Statistics:
    """Mergeable float64 sums over clips and pooled axes: count, sum and sum of squares, [C, 1] or [C, F, 1]."""

    count: int
    total: np.ndarray
    squares: np.ndarray

    def __add__(self, other: "Statistics") -> "Statistics":
        return Statistics(self.count + other.count, self.total + other.total, self.squares + other.squares)

    @property
    def mean(self) -> np.ndarray:
        """Mean of each channel."""
        return self.total / self.count

    @property
    def std(self) -> np.ndarray:
        """Standard deviation of each channel (population)."""
        return np.sqrt(np.maximum(self.squares / self.count - np.square(self.mean), 0.0))

    @property
    def rms(self) -> np.ndarray:
        """Root mean square of each channel."""
        return np.sqrt(self.squares / self.count)

    def to_json(self) -> dict[str, Any]:
        """Return the statistics as JSON values, exactly."""
        return {"count": self.count, "total": self.total.tolist(), "squares": self.squares.tolist()}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> "Statistics":
        """Restore statistics from `to_json`.

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
    """Stored values <-> network input: x -> c((x - mean) / max(std, floor)) * sigma_data.

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
        """Return the scaling to standard deviation `sigma_data` of each channel above the floor.

        Without `centred` the mean is 0 and the root mean square replaces the standard deviation. With `one_scale` all
        channels share one scale.

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
        """Scale stored values [B, *shape] to network input, float32 [B, *shape]."""
        mean, std = self._tensors(stored.device)
        unit = (stored.float() - mean) / std
        # promise: model-target-spread-floor-2
        return _companded(unit, self.power) * self.sigma_data

    def from_model(self, x: Tensor) -> Tensor:
        """Invert `to_model`, float32."""
        mean, std = self._tensors(x.device)
        return _companded(x.float() / self.sigma_data, 1 / self.power) * std + mean

    def _tensors(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """Return mean and standard deviation on a device, float32; copied there once."""
        if device not in self._on:
            self._on[device] = tuple(
                torch.as_tensor(v, dtype=torch.float32, device=device) for v in (self.mean, self.std)
            )
        mean, std = self._on[device]
        return mean, std


def _companded(x: Tensor, power: float) -> Tensor:
    return x if power == 1.0 else x.sign() * x.abs().pow(power)

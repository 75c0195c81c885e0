"""The interface every data format has: audio -> stored array -> audio, and stored array <-> network input.

B batch, C channels, N samples, T frames. Audio is float32 [B, 1, N] in -1..1.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from data_specs.errors import UserError
from data_specs.formats import FORMATS
from data_specs.rates import frame_rate

STD_FLOOR = 0.02  # of the largest standard deviation: near-silent channels are not blown up to noise


class Representation(ABC):
    """One data format. Implementations are stateless apart from their kernels or weights."""

    name: str
    label: str  # for tables and pages: the name, with the codec in brackets where there is one
    hop: int  # samples between frames
    discrete: bool = False
    centred: bool = True  # whether the mean is taken off on the way into the network
    source: str = ""  # format whose arrays `derive` takes; empty where `encode` needs the audio
    one_scale: bool = False  # whether all channels are divided by one spread there, since their sizes say what matters

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
        """Frames a second, exactly."""
        return frame_rate(self.hop)

    @property
    def digest(self) -> str:
        """SHA-256 of the kernels or weights behind this format; empty where there are none."""
        return ""

    @property
    def licence(self) -> str:
        """Licence of the weights behind this format; empty where there are none."""
        return ""

    @abstractmethod
    def frames(self, samples: int) -> int:
        """Number of frames T of a clip of `samples`."""

    @abstractmethod
    def shape(self, samples: int) -> tuple[int, ...]:
        """Shape of the stored array of one clip of `samples`, without the batch."""

    @abstractmethod
    def encode(self, audio: Tensor) -> Tensor:
        """float32 [B, 1, N] -> [B, *shape(N)], float32 or int16. No gradient."""

    def derive(self, encoded: Tensor) -> Tensor:
        """Return what `encode` returns, from the arrays that the format `source` makes of the same audio."""
        raise NotImplementedError(f"{self.name} derives from no other format")

    @abstractmethod
    def decode(self, stored: Tensor, gradient: bool = False) -> Tensor:
        """[B, *shape(N)] in any stored dtype -> audio, float32 [B, 1, N]; differentiable when `gradient`."""

    def samples(self, frames: int) -> int:
        """Number of samples N that `frames` frames decode to."""
        return frames * self.hop

    def pooled_axes(self) -> tuple[int, ...]:
        """Axes of a stored array [*shape] over which one mean and std are shared."""
        return (-1,)

    def statistics(self, stored: np.ndarray) -> "Statistics":
        """float64 sums of stored arrays [B, *shape], one value for each channel that has its own scale."""
        axes = (0, *(axis % (stored.ndim - 1) + 1 for axis in self.pooled_axes()))
        count = int(np.prod([stored.shape[axis] for axis in axes]))
        values = stored.astype(np.float64)
        total = values.sum(axis=axes, keepdims=True)[0]
        squares = np.multiply(values, values, out=values).sum(axis=axes, keepdims=True)[0]
        return Statistics(count, total, squares)

    def scaling(self, statistics: "Statistics", sigma_data: float, power: float = 1.0) -> "Scaling":
        """The pair `to_model`, `from_model` for data with these statistics."""
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
        """Root mean square of each channel: the deviation from zero."""
        return np.sqrt(self.squares / self.count)

    def to_json(self) -> dict[str, Any]:
        """Exact JSON form."""
        return {"count": self.count, "total": self.total.tolist(), "squares": self.squares.tolist()}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> "Statistics":
        """The inverse of `to_json`.

        Raises:
            UserError: a field is missing or no number.
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

    c is the identity for `power` 1 and else c(u) = sign(u) |u|^power, which leaves one standard deviation where it is:
    powers below 1 bring peaks nearer and lift what is quiet, so the spread is then sigma_data only roughly.
    """

    mean: np.ndarray
    std: np.ndarray  # already floored
    sigma_data: float
    power: float = 1.0

    @classmethod
    def fit(
        cls,
        statistics: Statistics,
        sigma_data: float,
        power: float = 1.0,
        centred: bool = True,
        one_scale: bool = False,
    ) -> "Scaling":
        """The scaling of standardised data: spread `sigma_data` for each channel above the floor.

        Without `centred` the mean is taken for 0 and the spread is the root mean square. With `one_scale` all channels
        together have that spread, and keep their sizes to each other.

        Raises:
            UserError: no channel varies, so that there is nothing to scale by.
        """
        mean = statistics.mean if centred else np.zeros_like(statistics.total)
        std = statistics.std if centred else statistics.rms
        if one_scale:
            std = np.full_like(std, np.sqrt(np.square(std).mean()))
        if not std.max() > 0:
            raise UserError("the train split holds one value only, so it cannot be scaled; build the dataset again")
        # promise: model-target-spread-floor
        return cls(mean, np.maximum(std, STD_FLOOR * std.max()), sigma_data, power)

    def to_model(self, stored: Tensor) -> Tensor:
        """[B, *shape] -> float32 [B, *shape] of spread `sigma_data`."""
        unit = (stored.float() - self._tensor(self.mean, stored)) / self._tensor(self.std, stored)
        # promise: model-target-spread-floor-2
        return _companded(unit, self.power) * self.sigma_data

    def from_model(self, x: Tensor) -> Tensor:
        """The inverse of `to_model`, float32."""
        unit = _companded(x.float() / self.sigma_data, 1 / self.power)
        return unit * self._tensor(self.std, x) + self._tensor(self.mean, x)

    @staticmethod
    def _tensor(values: np.ndarray, like: Tensor) -> Tensor:
        return torch.as_tensor(values, dtype=torch.float32, device=like.device)


def _companded(x: Tensor, power: float) -> Tensor:
    return x if power == 1.0 else x.sign() * x.abs().pow(power)

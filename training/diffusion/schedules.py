"""Noise schedules over discrete time, noise levels of samplers, and distributions of time steps in training.

There are T time steps, 1 to T. alphabar_t is the product of the alphas up to t, with alphabar_0 = 1; sigma is the ratio
of noise to signal amplitude. B clips.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
from torch import Tensor

from data_specs.errors import UserError

State = dict[str, Tensor]  # of an adaptive distribution, by name


def linear_alphabars(steps: int) -> Tensor:
    """Return alphabar_0..T for T = `steps`, float64 [T + 1], the linear schedule of Ho et al. 2020.

    beta rises linearly from 1e-4 to 0.02, both times 1000 / T, and is at most 0.999.
    """
    scale = 1000 / steps
    betas = torch.linspace(1e-4 * scale, 0.02 * scale, steps, dtype=torch.float64).clamp(max=0.999)
    return torch.cat([torch.ones(1, dtype=torch.float64), torch.cumprod(1 - betas, 0)])


def cosine_alphabars(steps: int, offset: float = 0.008) -> Tensor:
    """Return alphabar_0..T for T = `steps`, float64 [T + 1], the cosine schedule (Nichol and Dhariwal 2021, eq. 17).

    It is a squared cosine with `offset` s, exactly 1 at 0 and exactly 0 at T. Betas are not clipped.
    """
    times = torch.arange(steps + 1, dtype=torch.float64) / steps
    shape = torch.cos((times + offset) / (1 + offset) * math.pi / 2) ** 2
    alphabars = shape / shape[0]
    alphabars[-1] = 0.0
    return alphabars


SCHEDULES: dict[str, Callable[[int], Tensor]] = {"linear": linear_alphabars, "cosine": cosine_alphabars}


def with_signal_left(alphabars: Tensor, least: float = 4e-5) -> Tensor:
    """Return `alphabars` raised to at least `least`, float64 [T + 1].

    The default is the value at the end of the linear schedule, so that sigma is below 160.
    An error e of the predicted noise is an error sigma * e of the clean data. At the end of the published cosine
    schedule, with betas clipped at 0.999, sigma is 2e4, and sampling at a subset of the times diverges.
    """
    return alphabars.clamp(min=least)


def sigmas_of(alphabars: Tensor) -> Tensor:
    """Return sigma = sqrt((1 - alphabar) / alphabar), the noise level of x_t / sqrt(alphabar_t).

    It has the shape and dtype of `alphabars`; it is infinite where alphabar is 0.
    """
    return ((1 - alphabars) / alphabars).sqrt()


def strided_times(total: int, steps: int | None) -> list[int]:
    """Return `steps` + 1 decreasing times from `total` to 0, evenly spaced and rounded to integers.

    `steps` None is for `total` steps, that is, all times.

    Raises:
        UserError: `steps` is not in 1..total.
    """
    steps = total if steps is None else steps
    if not 1 <= steps <= total:
        raise UserError(f"SAMPLER_STEPS= must be from 1 to {total}, got {steps}")
    return [round(total * (steps - step) / steps) for step in range(steps + 1)]


def karras_sigmas(steps: int, sigma_min: float, sigma_max: float, rho: float = 7.0) -> list[float]:
    """Return `steps` decreasing noise levels from sigma_max to sigma_min, then 0: `steps` + 1 values.

    Levels to the power 1 / `rho` are evenly spaced (Karras et al. 2022, eq. 5). For one step the level is sigma_max.

    Raises:
        UserError: steps below 1, or not 0 < sigma_min < sigma_max.
    """
    if steps < 1 or not 0 < sigma_min < sigma_max:
        raise UserError(
            f"noise levels must satisfy 0 < sigma_min < sigma_max, steps >= 1; got {sigma_min}, {sigma_max}, {steps}"
        )
    first, last = sigma_max ** (1 / rho), sigma_min ** (1 / rho)
    return [(first + i / max(1, steps - 1) * (last - first)) ** rho for i in range(steps)] + [0.0]


class Times(ABC):
    """Distribution p(t) over the time steps 1..T of training, T = `total`."""

    adaptive = False

    def __init__(self, total: int) -> None:
        self.total = total

    @abstractmethod
    def probabilities(self) -> Tensor:
        """Return p(t) for t = 1..T, float64 [T], with sum 1."""

    def draw(self, uniform: Tensor) -> tuple[Tensor, Tensor]:
        """Return times drawn from p(t), int64 [B], and their weights 1 / (T p(t)), float32 [B].

        `uniform` [B] are uniform random numbers in [0, 1), which determine the times. With the weights, the expected
        loss is that of times drawn with equal probability.
        """
        p = self.probabilities().to(uniform.device, non_blocking=True)
        edges = p.cumsum(0)
        index = torch.searchsorted(edges, uniform.double() * edges[-1], right=True).clamp(max=self.total - 1)
        return index + 1, (1 / (self.total * p[index])).float()

    def observe(self, times: Tensor, terms: Tensor) -> None:  # noqa: B027 (only adaptive ones need it)
        """Update p(t) by `terms` [B], the losses at `times` [B] before weights; does nothing in the base class."""

    def state_dict(self) -> State:
        """Return a copy of the state that `observe` updates, by name; empty in the base class."""
        return {}

    def load_state_dict(self, state: State) -> None:  # noqa: B027
        """Set the state to one that `state_dict` returned; does nothing in the base class."""


class UniformTimes(Times):
    """Equal probability for all times."""

    def probabilities(self) -> Tensor:
        return torch.full((self.total,), 1 / self.total, dtype=torch.float64)


class ImportanceTimes(Times):
    """p(t) proportional to the root mean square of the loss at t (Nichol and Dhariwal 2021, eq. 18).

    The mean square of the losses at each t is an exponential average, which keeps 0.9 of the old value. p is uniform
    until every time has been observed ten times, and while all losses are 0. Then p is 0.1 of the uniform distribution
    plus 0.9 of the proportional one, so that the weights of `draw` are at most 10.
    """

    adaptive = True
    seen_first = 10
    decay = 0.9
    uniform_share = 0.1

    def __init__(self, total: int) -> None:
        super().__init__(total)
        self.squares = torch.zeros(total, dtype=torch.float64)
        self.seen = torch.zeros(total, dtype=torch.int64)

    def probabilities(self) -> Tensor:
        even = torch.full((self.total,), 1 / self.total, dtype=torch.float64)
        sizes = self.squares.sqrt()
        if int(self.seen.min()) < self.seen_first or not float(sizes.sum()) > 0:
            return even
        return self.uniform_share * even + (1 - self.uniform_share) * sizes / sizes.sum()

    def observe(self, times: Tensor, terms: Tensor) -> None:
        # In a loop, since a time may occur twice in a batch and the average depends on the order.
        for index, term in zip((times - 1).tolist(), terms.double().tolist(), strict=True):
            keep = self.decay if self.seen[index] else 0.0
            self.squares[index] = keep * self.squares[index] + (1 - keep) * term**2
            self.seen[index] += 1

    def state_dict(self) -> State:
        return {"squares": self.squares.clone(), "seen": self.seen.clone()}

    def load_state_dict(self, state: State) -> None:
        self.squares.copy_(state["squares"])
        self.seen.copy_(state["seen"])


TIMES: dict[str, type[Times]] = {"uniform": UniformTimes, "importance": ImportanceTimes}

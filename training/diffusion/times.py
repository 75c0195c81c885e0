"""Which time steps a discrete-time paradigm trains on. T steps, t from 1 to T."""

from abc import ABC, abstractmethod

import torch
from torch import Tensor


class Times(ABC):
    """A distribution p(t) over 1..T from which clips draw their time."""

    adaptive = False

    def __init__(self, total: int) -> None:
        self.total = total

    @abstractmethod
    def probabilities(self) -> Tensor:
        """p(t), float64 [T]."""

    def draw(self, uniform: Tensor) -> tuple[Tensor, Tensor]:
        """Uniform draws [B] -> times, int64 [B], and weights 1 / (T p(t)), float32 [B], that keep the mean unbiased."""
        p = self.probabilities()
        edges = p.cumsum(0)
        index = torch.searchsorted(edges, uniform.double() * edges[-1], right=True).clamp(max=self.total - 1)
        return index + 1, (1 / (self.total * p[index])).float()

    def observe(self, times: Tensor, terms: Tensor) -> None:  # noqa: B027 (not all learn)
        """Learn from unweighted loss terms [B] at `times` [B], in order."""

    def state_dict(self) -> dict[str, Tensor]:
        """What was learned."""
        return {}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:  # noqa: B027
        """The inverse of `state_dict`."""


class UniformTimes(Times):
    """All times alike."""

    def probabilities(self) -> Tensor:
        return torch.full((self.total,), 1 / self.total, dtype=torch.float64)


class ImportanceTimes(Times):
    """p(t) proportional to the root mean square of the loss at t (Nichol and Dhariwal 2021, eq. 18).

    The mean square is a running one; until every time has been seen ten times p is uniform. A tenth of p stays uniform,
    which bounds the weights by 10.
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
        # One after another, since a time may occur twice in a batch and a running mean depends on the order.
        for index, term in zip((times - 1).tolist(), terms.double().tolist(), strict=True):
            keep = self.decay if self.seen[index] else 0.0
            self.squares[index] = keep * self.squares[index] + (1 - keep) * term**2
            self.seen[index] += 1

    def state_dict(self) -> dict[str, Tensor]:
        return {"squares": self.squares.clone(), "seen": self.seen.clone()}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        self.squares.copy_(state["squares"])
        self.seen.copy_(state["seen"])


TIMES: dict[str, type[Times]] = {"uniform": UniformTimes, "importance": ImportanceTimes}

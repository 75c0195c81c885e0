"""Learning rate and averages of weights; both schedules are functions of the step alone."""

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from data_specs.arrays import Float64


def learning_rate(step: int, base: float, warmup_steps: int, decay_start: int) -> float:
    """Learning rate of step 1, 2, ...: linear warm-up, `base`, then inverse-square-root decay (Karras et al. 2024).

    It does not depend on the total number of steps, so a run can be extended.
    """
    rate = base * min(1.0, step / max(1, warmup_steps))
    if decay_start and step > decay_start:
        rate *= (decay_start / step) ** 0.5
    return rate


class EMA:
    """Exponential moving average (EMA) of a network's parameters, used for validation and sampling.

    The decay of step s is min(decay, (1 + s) / (10 + s)), so early steps are forgotten faster.

    Args:
        source: the network in training; its present values are the initial average.
        decay: largest share of the average that a step keeps.

    Attributes:
        network: a copy of `source` with averaged values, in eval mode.
    """

    def __init__(self, source: nn.Module, decay: float) -> None:
        self.network = copy.deepcopy(source).eval().requires_grad_(False)
        self._decay = decay
        self._pairs = list(zip(self.network.parameters(), source.parameters(), strict=True))

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Include the network's values after `step` steps (1, 2, ...)."""
        decay = min(self._decay, (1 + step) / (10 + step))
        averages, sources = map(list, zip(*self._pairs, strict=True))
        # promise: gradients-clipped-together-averaged-2
        torch._foreach_lerp_(averages, sources, 1.0 - decay)


class PowerEMA:
    """Power-function averages of a network's parameters (Karras et al. 2024, section 3).

    The average after step t weighs step s with s^gamma; its relative width is the standard deviation of that profile
    over t. Two averages, stored now and then, allow any other width to be reconstructed (`reconstruct`).

    Args:
        source: the network in training.
        stds: relative widths, 0.05 and 0.1 in the paper.
    """

    def __init__(self, source: nn.Module, stds: Sequence[float]) -> None:
        self.stds = tuple(stds)
        self._source = list(source.named_parameters())
        self.averages = [{name: value.detach().clone() for name, value in self._source} for _ in stds]

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Include the network's values after `step` steps (1, 2, ...): beta = (1 - 1 / t)^(gamma + 1) (eq. 127)."""
        values: list[Tensor] = [value for _, value in self._source]
        for std, average in zip(self.stds, self.averages, strict=True):
            beta = (1 - 1 / step) ** (power_exponent(std) + 1)
            torch._foreach_lerp_([average[name] for name, _ in self._source], values, 1 - beta)

    def state_dict(self) -> dict[str, Any]:
        """The averages, for a checkpoint."""
        return {str(std): average for std, average in zip(self.stds, self.averages, strict=True)}

    def load_state_dict(self, state: Mapping[str, Mapping[str, Tensor]]) -> None:
        """The inverse of `state_dict`."""
        for std, average in zip(self.stds, self.averages, strict=True):
            for name, value in average.items():
                value.copy_(state[str(std)][name])


def power_exponent(std: float) -> float:
    """Exponent gamma of the power-function profile of relative width `std` (Karras et al. 2024, eq. 123)."""
    roots = np.roots([1.0, 7.0, 16.0 - std**-2, 12.0 - std**-2])
    return float(roots[np.isreal(roots)].real.max())


def reconstruction_weights(steps: Sequence[int], stds: Sequence[float], step: int, std: float) -> Float64:
    """Weights with which averages after `steps` of widths `stds` best sum to the average of width `std` after `step`.

    Least squares between the profiles, whose inner products are known in closed form (Karras et al. 2024, appendix C).
    """
    times = np.array([*steps, step], np.float64)
    gammas = np.array([power_exponent(one) for one in (*stds, std)])
    ratio = times[:, None] / times
    power = np.where(ratio < 1, gammas, -gammas[:, None])
    products = (gammas[:, None] + 1) * (gammas + 1) * ratio**power
    products /= (gammas[:, None] + gammas + 1) * np.maximum(times[:, None], times)
    return np.linalg.lstsq(products[:-1, :-1], products[:-1, -1], rcond=1e-12)[0]


def reconstruct(stored: Sequence[tuple[int, float, Mapping[str, Tensor]]], std: float) -> dict[str, Tensor]:
    """The average of relative width `std` at the last of the stored steps, float32.

    Args:
        stored: step, relative width and values of averages.
    """
    steps, stds, averages = zip(*stored, strict=True)
    weights = reconstruction_weights(steps, stds, max(steps), std)
    return {
        name: sum(
            (w * average[name].double() for w, average in zip(weights, averages, strict=True)), torch.zeros(())
        ).float()
        for name in averages[0]
    }

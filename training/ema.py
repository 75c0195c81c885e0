"""Learning-rate schedule and averages of weights."""

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn


def learning_rate(step: int, base: float, warmup_steps: int, decay_start: int) -> float:
    """Return the learning rate of `step` (1, 2, ...).

    It rises linearly to `base` over `warmup_steps`, and falls as 1 / sqrt(step) from `decay_start` on (Karras et al.
    2024); a `decay_start` of 0 is never. It does not depend on the total number of steps, so a run can be extended.
    """
    rate = base * min(1.0, step / max(1, warmup_steps))
    if decay_start and step > decay_start:
        rate *= (decay_start / step) ** 0.5
    return rate


class EMA:
    """Exponential moving average (EMA) of the parameters of a network, used for validation and sampling.

    The decay at step s is min(decay, (1 + s) / (10 + s)), so that the average follows the first steps closely.

    Args:
        source: the network in training; its present parameters are the initial average.
        decay: largest weight of the previous average at a step.

    Attributes:
        network: a copy of `source` with averaged parameters, in eval mode; its buffers are not updated.
    """

    def __init__(self, source: nn.Module, decay: float) -> None:
        self.network = copy.deepcopy(source).eval().requires_grad_(False)
        self._decay = decay
        self._pairs = list(zip(self.network.parameters(), source.parameters(), strict=True))

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Move the average towards the present parameters of `source`, those after `step` (1, 2, ...)."""
        decay = min(self._decay, (1 + step) / (10 + step))
        averages, sources = map(list, zip(*self._pairs, strict=True))
        # promise: gradients-clipped-together-averaged-2
        torch._foreach_lerp_(averages, sources, 1.0 - decay)


class PowerEMA:
    """Power-function averages of a network's parameters (Karras et al. 2024, section 3).

    The average after step t weights step s by s^gamma; its relative width is the standard deviation of that profile
    divided by t. Two averages, stored at intervals, suffice to reconstruct any other width (`reconstruct`).

    Args:
        source: the network in training.
        stds: relative widths, 0.05 and 0.1 in the paper.

    Attributes:
        averages: averaged parameters by name, for each of `stds`.
    """

    def __init__(self, source: nn.Module, stds: Sequence[float]) -> None:
        self.stds = tuple(stds)
        self._source = list(source.named_parameters())
        self.averages = [{name: value.detach().clone() for name, value in self._source} for _ in stds]

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Update the averages by the present parameters of `source`, those after step t = `step` (1, 2, ...).

        The weight of the previous average is (1 - 1 / t)^(gamma + 1) (eq. 127).
        """
        values: list[Tensor] = [value for _, value in self._source]
        for std, average in zip(self.stds, self.averages, strict=True):
            beta = (1 - 1 / step) ** (power_exponent(std) + 1)
            torch._foreach_lerp_([average[name] for name, _ in self._source], values, 1 - beta)

    def state_dict(self) -> dict[str, Any]:
        """Return the averaged parameters by name for each relative width, as text such as "0.05"; without a copy."""
        return {str(std): average for std, average in zip(self.stds, self.averages, strict=True)}

    def load_state_dict(self, state: Mapping[str, Mapping[str, Tensor]]) -> None:
        """Set the averages to a state that `state_dict` returned, which must have all widths and parameters."""
        for std, average in zip(self.stds, self.averages, strict=True):
            for name, value in average.items():
                value.copy_(state[str(std)][name])


def power_exponent(std: float) -> float:
    """Return the exponent gamma of the profile s^gamma of relative width `std` (Karras et al. 2024, eq. 123)."""
    roots = np.roots([1.0, 7.0, 16.0 - std**-2, 12.0 - std**-2])
    return float(roots[np.isreal(roots)].real.max())


def reconstruct(stored: Sequence[tuple[int, float, Mapping[str, Tensor]]], std: float) -> dict[str, Tensor]:
    """Return the average of relative width `std` after the last of the stored steps, float32 by name of the parameter.

    It is the linear combination of stored averages whose profile is closest to that of `std` in least squares; inner
    products of profiles have a closed form (Karras et al. 2024, appendix C).

    Args:
        stored: (step, relative width, parameters by name) of each stored average.
        std: relative width of the average to return.
    """
    steps, stds, averages = zip(*stored, strict=True)
    times = np.array([*steps, max(steps)], np.float64)
    gammas = np.array([power_exponent(one) for one in (*stds, std)])
    ratio = times[:, None] / times
    power = np.where(ratio < 1, gammas, -gammas[:, None])
    products = (gammas[:, None] + 1) * (gammas + 1) * ratio**power
    products /= (gammas[:, None] + gammas + 1) * np.maximum(times[:, None], times)
    weights = np.linalg.lstsq(products[:-1, :-1], products[:-1, -1], rcond=1e-12)[0]
    return {
        name: sum(w * average[name].double() for w, average in zip(weights, averages, strict=True)).float()
        for name in averages[0]
    }

"""Functions of the step alone: learning rate and the averaged weights' memory."""

from typing import Any

import torch
from torch import Tensor, nn


def learning_rate(step: int, base: float, warmup_steps: int, decay_start: int) -> float:
    """The rate of step 1, 2, ...: a linear rise over `warmup_steps`, then `base`, then `base * sqrt(start / step)`.

    It does not depend on the number of steps, so that a run can be prolonged (Karras et al. 2024, eq. 67, with the
    same fall).
    """
    rate = base * min(1.0, step / max(1, warmup_steps))
    if decay_start and step > decay_start:
        rate *= (decay_start / step) ** 0.5
    return rate


class Average:
    """Exponential moving average of a network's parameters (EMA), the weights that are used for sampling.

    The first steps are forgotten faster: the decay at step s is min(decay, (1 + s) / (10 + s)).

    Args:
        network: the network; its current values are the start.
        decay: share of the average that a step keeps, in the long run.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self._decay = decay
        self._source = dict(network.state_dict(keep_vars=True))
        self.weights: dict[str, Tensor] = {name: value.detach().clone() for name, value in self._source.items()}

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take in the network's values after `step` steps (1, 2, ...)."""
        decay = min(self._decay, (1 + step) / (10 + step))
        floating = [name for name, value in self.weights.items() if value.is_floating_point()]
        torch._foreach_lerp_(
            [self.weights[name] for name in floating], [self._source[name] for name in floating], 1.0 - decay
        )

    def load(self, weights: dict[str, Tensor]) -> None:
        """Continue from saved averages."""
        for name, value in self.weights.items():
            value.copy_(weights[name])


def finite_norm(parameters: Any, limit: float) -> Tensor:
    """Scale gradients so that their common norm is at most `limit`; returns the norm before, a scalar tensor."""
    return torch.nn.utils.clip_grad_norm_(parameters, limit, foreach=True)

"""Learning rate and averages of weights; both schedules are functions of the step alone."""

import copy

import torch
from torch import nn


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

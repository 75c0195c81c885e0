"""Functions of the step alone: the learning rate, and how fast averaged weights forget."""

import copy

import torch
from torch import nn


def learning_rate(step: int, base: float, warmup_steps: int, decay_start: int) -> float:
    """The rate of step 1, 2, ...: a linear rise over `warmup_steps`, then `base`, then `base * sqrt(start / step)`.

    It does not know the number of steps, so a run can be prolonged (the fall is that of Karras et al. 2024).
    """
    rate = base * min(1.0, step / max(1, warmup_steps))
    if decay_start and step > decay_start:
        rate *= (decay_start / step) ** 0.5
    return rate


class EMA:
    """Exponential moving average (EMA) of a network's parameters: the weights that validation and sampling use.

    Early steps are forgotten faster: step s keeps the share min(decay, (1 + s) / (10 + s)) of the average.

    Args:
        source: the network that is trained; its present values are the start.
        decay: share of the average that a step keeps in the long run.

    Attributes:
        network: a copy of `source` with averaged values, in eval mode.
    """

    def __init__(self, source: nn.Module, decay: float) -> None:
        self.network = copy.deepcopy(source).eval().requires_grad_(False)
        self._decay = decay
        self._pairs = list(zip(self.network.parameters(), source.parameters(), strict=True))

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take in the values of the network after `step` steps (1, 2, ...)."""
        decay = min(self._decay, (1 + step) / (10 + step))
        averages, sources = map(list, zip(*self._pairs, strict=True))
        # promise: gradients-clipped-together-averaged-2
        torch._foreach_lerp_(averages, sources, 1.0 - decay)

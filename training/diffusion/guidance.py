"""Classifier-free guidance (Ho and Salimans 2022, eq. 6), for all controls or per control, in one batch.

D(...) is the output of the network with the named controls, the others unconditioned. With one weight w the guided
output is D(none) + w (D(all) - D(none)). With weights w_f per control f it is
D(all) + sum_f (w_f - 1) (D(all) - D(all without f)). Weight 1 is no guidance.

B clips, N control rows, T frames, n terms D(...).
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from training.conditioning import ControlLayout

Weights = float | Mapping[str, float]


def describe_weights(weights: Weights) -> str:
    """Return weights as text, as the option GUIDANCE= takes them: `2`, or `velocity=1.5, chroma=3`."""
    if isinstance(weights, Mapping):
        return ", ".join(f"{name}={weight:g}" for name, weight in weights.items())
    return f"{weights:g}"


class Guidance:
    """Controls of all terms, and the coefficients of their outputs (with sum 1).

    There is one term, D(all), plus one for a single weight other than 1, for weights per clip, or for each weight of a
    control other than 1.

    Args:
        controls: [B, N, T], -1 where unconditioned; None for a network without controls, where weights have no effect.
        layout: order of the controls.
        weights: one weight for all controls, one per clip [B, 1, ...] with the axes of x, or weights by name of the
            control (1 for others).

    Attributes:
        controls: controls of all terms, [n B, N, T], term by term; None if the argument is.
        coefficients: factor of the output of each term, n numbers or n tensors like `weights`.

    Raises:
        UserError: a weight for an unknown control.
    """

    def __init__(self, controls: Tensor | None, layout: ControlLayout, weights: Weights | Tensor = 1.0) -> None:
        self.coefficients: list[float | Tensor] = [1.0]
        self.controls = controls
        if controls is None:
            return
        terms = [controls]
        if isinstance(weights, Mapping):
            for name, weight in weights.items():
                layout.slice(name)
                if weight != 1:
                    self.coefficients[0] += weight - 1
                    # promise: both-formulas-stated-log-2
                    self.coefficients.append(1 - weight)
                    terms.append(layout.without(controls, [name]))
        elif isinstance(weights, Tensor) or weights != 1:
            # promise: both-formulas-stated-log
            self.coefficients = [weights, 1 - weights]
            terms.append(layout.without(controls, layout.names))
        self.controls = torch.cat(terms)

    def repeat(self, x: Tensor) -> Tensor:
        """Return `x` [B, ...] repeated for each term, [n B, ...], in the order of `controls`."""
        return torch.cat([x] * len(self.coefficients)) if len(self.coefficients) > 1 else x

    def mix(self, outputs: Tensor) -> Tensor:
        """Return the guided output [B, ...]: the sum of the n parts of `outputs` [n B, ...] times `coefficients`."""
        if len(self.coefficients) == 1:
            return outputs
        parts = outputs.chunk(len(self.coefficients))
        return sum((part * c for part, c in zip(parts, self.coefficients, strict=True)), torch.zeros_like(parts[0]))

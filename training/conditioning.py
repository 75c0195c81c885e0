"""Controls as the networks take them: one tensor [B, N, T], the features stacked in the order of a layout.

One tensor, not a dictionary, crosses into the networks: it crops, pads, batches for guidance and compiles as one.
`ControlLayout` is the only place that knows which rows belong to which feature. B batch, T frames.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from data_specs.controls import CONTROLS, UNCONDITIONED
from data_specs.errors import UserError


@dataclass(frozen=True)
class ControlLayout:
    """Names of the control features and their numbers of rows, in the order they are stacked."""

    rows: tuple[tuple[str, int], ...]

    @classmethod
    def from_shapes(cls, shapes: Mapping[str, tuple[int, ...]]) -> Self:
        """From shapes of one clip's features as shapes.txt has them: `(T,)` is one row, `(N, T)` are N.

        The order is that of `CONTROLS`, then of names, whatever the order of `shapes`: a model read from a snapshot,
        whose JSON may list keys in any order, must stack as it did in training.
        """
        order = list(CONTROLS)
        names = sorted(shapes, key=lambda name: (order.index(name) if name in order else len(order), name))
        return cls(tuple((name, 1 if len(shapes[name]) == 1 else shapes[name][0]) for name in names))

    @property
    def names(self) -> tuple[str, ...]:
        """Feature names."""
        return tuple(name for name, _ in self.rows)

    @property
    def total(self) -> int:
        """Number of rows N of the stacked tensor."""
        return sum(count for _, count in self.rows)

    def slice(self, name: str) -> slice:
        """The rows of feature `name`.

        Raises:
            UserError: no such feature.
        """
        start = 0
        for other, count in self.rows:
            if other == name:
                return slice(start, start + count)
            start += count
        raise UserError(f"there is no control feature {name!r}; choose from {', '.join(self.names)}")

    def stack(self, features: Mapping[str, Tensor]) -> Tensor:
        """`{"velocity": [B, T], "instruments": [B, 3, T], ...}` -> float32 [B, N, T]; a feature left out is -1.

        Raises:
            UserError: a feature of another name, or none at all.
        """
        for name in features:
            self.slice(name)
        if not features:
            raise UserError(f"at least one control feature is needed; choose from {', '.join(self.names)}")
        first = next(iter(features.values()))
        stacked = torch.full((first.shape[0], self.total, first.shape[-1]), UNCONDITIONED, device=first.device)
        for name, values in features.items():
            stacked[:, self.slice(name)] = values.unsqueeze(1) if values.ndim == 2 else values
        return stacked

    def split(self, controls: Tensor) -> dict[str, Tensor]:
        """[B, N, T] -> each feature's rows, [B, n, T]."""
        return {name: controls[:, self.slice(name)] for name in self.names}

    def without(self, controls: Tensor, names: Iterable[str]) -> Tensor:
        """A copy of [B, N, T] in which the features `names` say nothing."""
        free = controls.clone()
        for name in names:
            free[:, self.slice(name)] = UNCONDITIONED
        return free

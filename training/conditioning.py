"""All controls of a batch as one tensor [B, N, T], stacked in the order of a `ControlLayout`.

B clips, N control rows, T frames.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from data_specs.arrays import Shape
from data_specs.controls import CONTROLS, UNCONDITIONED
from data_specs.errors import UserError


@dataclass(frozen=True)
class ControlLayout:
    """Controls in stacking order: the name and the number of rows of each."""

    rows: tuple[tuple[str, int], ...]

    @classmethod
    def from_shapes(cls, shapes: Mapping[str, Shape]) -> Self:
        """Build a layout from the shapes in shapes.txt: `(T,)` is one row, `(n, T)` is n rows.

        Controls are in the order of `CONTROLS`, others follow alphabetically. The order of `shapes` has no effect: the
        JSON metadata of a snapshot may list keys in any order.
        """
        order = list(CONTROLS)
        names = sorted(shapes, key=lambda name: (order.index(name) if name in order else len(order), name))
        return cls(tuple((name, 1 if len(shapes[name]) == 1 else shapes[name][0]) for name in names))

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the controls, in stacking order."""
        return tuple(name for name, _ in self.rows)

    @property
    def total(self) -> int:
        """Number of rows N of all controls together."""
        return sum(count for _, count in self.rows)

    def slice(self, name: str) -> slice:
        """Return the slice of the rows of the control `name` in the second axis of a stacked tensor.

        Raises:
            UserError: no such control.
        """
        start = 0
        for other, count in self.rows:
            if other == name:
                return slice(start, start + count)
            start += count
        raise UserError(f"there is no control feature {name!r}; choose from {', '.join(self.names)}")

    def stack(self, features: Mapping[str, Tensor]) -> Tensor:
        """Stack controls, [B, T] or [B, n, T] by name, to float32 [B, N, T]; rows of missing controls are -1.

        Raises:
            UserError: an unknown control, or no control.
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
        """Return the rows of each control by its name, views [B, n, T] of `controls` [B, N, T].

        A control with one row keeps its axis of length 1.
        """
        return {name: controls[:, self.slice(name)] for name in self.names}

    def without(self, controls: Tensor, names: Iterable[str]) -> Tensor:
        """Return a copy of `controls` [B, N, T] in which the controls `names` are unconditioned (-1).

        Raises:
            UserError: an unknown control.
        """
        masked = controls.clone()
        for name in names:
            masked[:, self.slice(name)] = UNCONDITIONED
        return masked

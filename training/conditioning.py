"""Controls as one tensor [B, N, T]: the features stacked in the order of a `ControlLayout`.

One tensor instead of a dictionary is cropped, padded, batched for guidance and compiled as one. B batch, T frames.
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
    """Names and numbers of rows of the control features, in stacking order."""

    rows: tuple[tuple[str, int], ...]

    @classmethod
    def from_shapes(cls, shapes: Mapping[str, Shape]) -> Self:
        """Build a layout from the shapes in shapes.txt: `(T,)` is one row, `(N, T)` are N.

        The order is that of `CONTROLS`, then alphabetical, independent of the order of `shapes`: JSON metadata of a
        snapshot may list keys in any order.
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
        """Number of rows N."""
        return sum(count for _, count in self.rows)

    def slice(self, name: str) -> slice:
        """Return the rows of feature `name`.

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
        """Stack `{"velocity": [B, T], "instruments": [B, 3, T], ...}` as float32 [B, N, T]; missing features are -1.

        Raises:
            UserError: an unknown feature, or no feature.
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
        """Split [B, N, T] into the rows of each feature, [B, n, T]."""
        return {name: controls[:, self.slice(name)] for name in self.names}

    def without(self, controls: Tensor, names: Iterable[str]) -> Tensor:
        """Return a copy of [B, N, T] with the features `names` unconditioned."""
        masked = controls.clone()
        for name in names:
            masked[:, self.slice(name)] = UNCONDITIONED
        return masked

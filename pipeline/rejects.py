"""Rejects: counts, by named reason, of the files, tracks, windows and clips that are left out."""

from bisect import insort
from collections import Counter
from typing import Any, Self

EXAMPLES = 20  # examples kept of each reason


class Rejected(Exception):
    """An input is left out. `reason` is the fixed name under which it is counted, `detail` describes this input."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(reason, detail)
        self.reason = reason
        self.detail = detail

    def __str__(self) -> str:
        return f"{self.reason}: {self.detail}" if self.detail else self.reason


class Rejects:
    """Number of rejected inputs by reason, with examples: the first 20 of each reason in alphabetical order.

    Merging is associative and commutative, so the result does not depend on the number or order of workers.
    """

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.examples: dict[str, list[str]] = {}

    def add(self, reason: str, example: str = "", count: int = 1) -> None:
        """Add `count` rejected inputs under `reason`.

        Args:
            example: name of one of them. It is kept if it is not empty, not yet kept, and among the first 20 in
                alphabetical order; also with a `count` of 0.
        """
        self.counts[reason] += count
        self._keep(reason, example)

    def add_rejected(self, rejected: Rejected, name: str) -> None:
        """Add one input, called `name`, under the reason of `rejected`.

        Its example is `name: detail`, or the name alone if the rejection has no detail.
        """
        self.add(rejected.reason, f"{name}: {rejected.detail}" if rejected.detail else name)

    def merge(self, other: "Rejects") -> None:
        """Add the counts and examples of `other` to this object. Of each reason the first 20 examples are kept."""
        self.counts.update(other.counts)
        for reason, examples in other.examples.items():
            for example in examples:
                self._keep(reason, example)

    def __add__(self, other: "Rejects") -> "Rejects":
        total = Rejects()
        total.merge(self)
        total.merge(other)
        return total

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Rejects) and self.to_json() == other.to_json()

    @property
    def total(self) -> int:
        """Number of rejected inputs under all reasons."""
        return self.counts.total()

    def to_json(self) -> dict[str, Any]:
        """Return `{reason: {"count": ..., "examples": [...]}}`, reasons in alphabetical order."""
        return {
            reason: {"count": self.counts[reason], "examples": list(self.examples.get(reason, []))}
            for reason in sorted(self.counts)
        }

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Self:
        """Return the rejects that `to_json` turned into `value`."""
        rejects = cls()
        for reason, entry in value.items():
            rejects.counts[reason] = int(entry["count"])
            for example in entry["examples"]:
                rejects._keep(reason, example)
        return rejects

    def _keep(self, reason: str, example: str) -> None:
        kept = self.examples.setdefault(reason, [])
        if example and example not in kept:
            insort(kept, example)
            del kept[EXAMPLES:]

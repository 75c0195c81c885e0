"""What was left out, and why: every file, window or clip that gives nothing is counted under a named reason."""

from bisect import insort
from collections import Counter
from typing import Any, Self


class Rejected(Exception):
    """One input is left out. `reason` is a short fixed name that is counted, `detail` says more about this input."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(reason, detail)
        self.reason = reason
        self.detail = detail

    def __str__(self) -> str:
        return f"{self.reason}: {self.detail}" if self.detail else self.reason


class Rejects:
    """Counts per reason, with the first few examples of each in alphabetical order.

    Merging is associative and commutative, since counts add up and the examples kept are the smallest ones: whatever
    the number of workers and the order in which they end, the result is the same.
    """

    def __init__(self, examples_kept: int = 20) -> None:
        self.examples_kept = examples_kept
        self.counts: Counter[str] = Counter()
        self.examples: dict[str, list[str]] = {}

    def add(self, reason: str, example: str = "", count: int = 1) -> None:
        """Count `count` inputs under `reason`; `example` names one of them."""
        self.counts[reason] += count
        self._keep(reason, example)

    def add_rejected(self, rejected: Rejected, name: str) -> None:
        """Count the input called `name`, with the detail of its rejection."""
        self.add(rejected.reason, f"{name}: {rejected.detail}" if rejected.detail else name)

    def merge(self, other: "Rejects") -> None:
        """Add what `other` counted."""
        self.counts.update(other.counts)
        for reason, examples in other.examples.items():
            for example in examples:
                self._keep(reason, example)

    def __add__(self, other: "Rejects") -> "Rejects":
        total = Rejects(min(self.examples_kept, other.examples_kept))
        total.merge(self)
        total.merge(other)
        return total

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Rejects) and self.to_json() == other.to_json()

    __hash__ = None  # type: ignore[assignment]  # it changes

    @property
    def total(self) -> int:
        """Number of inputs left out."""
        return self.counts.total()

    def to_json(self) -> dict[str, Any]:
        """`{reason: {"count": ..., "examples": [...]}}`, reasons in alphabetical order."""
        return {
            reason: {"count": self.counts[reason], "examples": list(self.examples.get(reason, []))}
            for reason in sorted(self.counts)
        }

    @classmethod
    def from_json(cls, value: dict[str, Any], examples_kept: int = 20) -> Self:
        """The counter that `to_json` was called on."""
        rejects = cls(examples_kept)
        for reason, entry in value.items():
            rejects.counts[reason] = int(entry["count"])
            for example in entry["examples"]:
                rejects._keep(reason, example)
        return rejects

    def _keep(self, reason: str, example: str) -> None:
        kept = self.examples.setdefault(reason, [])
        if example and example not in kept:
            insort(kept, example)
            del kept[self.examples_kept :]

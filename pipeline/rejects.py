"""Rejects: counts of files, tracks, windows and clips that are not used, by named reason."""

from bisect import insort
from collections import Counter
from typing import Any, Self


class Rejected(Exception):
    """An input is rejected. `reason` is a short fixed name that is counted, `detail` describes this input."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(reason, detail)
        self.reason = reason
        self.detail = detail

    def __str__(self) -> str:
        return f"{self.reason}: {self.detail}" if self.detail else self.reason


class Rejects:
    """Counts by reason, with the alphabetically first examples of each.

    Merging is associative and commutative, so results do not depend on the number or order of workers.
    """

    def __init__(self, examples_kept: int = 20) -> None:
        self.examples_kept = examples_kept
        self.counts: Counter[str] = Counter()
        self.examples: dict[str, list[str]] = {}

    def add(self, reason: str, example: str = "", count: int = 1) -> None:
        """Count inputs under `reason`; `example` names one of them."""
        self.counts[reason] += count
        self._keep(reason, example)

    def add_rejected(self, rejected: Rejected, name: str) -> None:
        """Count the rejected input `name`, with the detail of its rejection."""
        self.add(rejected.reason, f"{name}: {rejected.detail}" if rejected.detail else name)

    def merge(self, other: "Rejects") -> None:
        """Add the counts and examples of `other`."""
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

    @property
    def total(self) -> int:
        """Number of rejected inputs."""
        return self.counts.total()

    def to_json(self) -> dict[str, Any]:
        """Return `{reason: {"count": ..., "examples": [...]}}`, reasons in alphabetical order."""
        return {
            reason: {"count": self.counts[reason], "examples": list(self.examples.get(reason, []))}
            for reason in sorted(self.counts)
        }

    @classmethod
    def from_json(cls, value: dict[str, Any], examples_kept: int = 20) -> Self:
        """Restore a counter from `to_json`."""
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

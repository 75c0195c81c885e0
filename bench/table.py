"""Rows of results with budgets, and interleaved timing of alternatives.

On a shared machine, measurements taken at different times are not comparable. So alternatives run in turn, each ratio
is between neighbours in time, and the median of the ratios counts. Processor seconds of this process are recorded
beside wall-clock seconds, since other programs do not change them.
"""

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal


@dataclass(frozen=True)
class Budget:
    """Bound on a row's ratio or, without a ratio, on its figure."""

    sense: Literal["at least", "at most"]
    bound: float

    def holds(self, value: float) -> bool:
        """Return whether `value` is within the bound."""
        return value >= self.bound if self.sense == "at least" else value <= self.bound

    def __str__(self) -> str:
        return f"{'≥' if self.sense == 'at least' else '≤'} {self.bound:g}"


def at_least(bound: float) -> Budget:
    """Lower bound."""
    return Budget("at least", bound)


def at_most(bound: float) -> Budget:
    """Upper bound."""
    return Budget("at most", bound)


@dataclass(frozen=True)
class Row:
    """One figure beside its baseline.

    Attributes:
        part: of the benchmark.
        figure: what is measured, with its conditions (threads, batch).
        unit: of `ours` and `baseline_value`.
        ours: this project's figure; None where it could not be measured, with the reason in `note`.
        baseline: name of the baseline; empty without one.
        baseline_value: its figure.
        ratio: median ratio of neighbours in time, bounded by the budget; `of` names its direction.
        cpu_ratio: the same in processor time; None where several processes take part.
        of: numerator and denominator in words.
        budget: bound to keep.
        note: remarks.
    """

    part: str
    figure: str
    unit: str
    ours: float | None = None
    baseline: str = ""
    baseline_value: float | None = None
    ratio: float | None = None
    cpu_ratio: float | None = None
    of: str = ""
    budget: Budget | None = None
    note: str = ""

    @property
    def met(self) -> bool | None:
        """Whether the budget is kept; None where there is none. A missing figure misses its budget."""
        if self.budget is None:
            return None
        value = self.ours if self.ratio is None else self.ratio
        return value is not None and self.budget.holds(value)

    def to_json(self) -> dict[str, Any]:
        """JSON form, with `met`."""
        return {**asdict(self), "met": self.met}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "Row":
        """The inverse of `to_json`."""
        fields = {name: part for name, part in value.items() if name != "met"}
        budget = fields.pop("budget")
        return cls(**fields, budget=Budget(**budget) if budget else None)


@dataclass
class Timings:
    """Seconds per unit of work by way, one entry a round."""

    wall: dict[str, list[float]] = field(default_factory=dict)
    cpu: dict[str, list[float]] = field(default_factory=dict)

    def add(self, way: str, wall: float, cpu: float) -> None:
        """Add a round of `way`."""
        self.wall.setdefault(way, []).append(wall)
        self.cpu.setdefault(way, []).append(cpu)

    def seconds(self, way: str) -> float:
        """Median seconds of a unit of work."""
        return statistics.median(self.wall[way])

    def rate(self, way: str) -> float:
        """Median units of work a second."""
        return statistics.median(1 / seconds for seconds in self.wall[way])

    def ratio(self, above: str, below: str) -> float:
        """Median over the rounds of seconds of `above` divided by seconds of `below`."""
        return _median_ratio(self.wall[above], self.wall[below])

    def cpu_ratio(self, above: str, below: str) -> float:
        """As `ratio`, in processor seconds of this process."""
        return _median_ratio(self.cpu[above], self.cpu[below])


def _median_ratio(above: list[float], below: list[float]) -> float:
    return statistics.median(a / b for a, b in zip(above, below, strict=True))


def interleaved(
    ways: Mapping[str, Callable[[], int | None]],
    repeats: int,
    warm_ups: int = 1,
    cpu_clock: Callable[[], float] = time.process_time,
) -> Timings:
    """Run the ways in turn, `repeats` rounds after `warm_ups` that do not count.

    A way returns how many units of work it did, or None for one. `cpu_clock` gives processor seconds.
    """
    timings = Timings()
    for number in range(warm_ups + repeats):
        for way, work in ways.items():
            wall, cpu = time.perf_counter(), cpu_clock()
            units = work()
            units = 1 if units is None else units
            wall, cpu = time.perf_counter() - wall, cpu_clock() - cpu
            if number >= warm_ups:
                timings.add(way, wall / units, cpu / units)
    return timings


def times_faster(
    part: str, figure: str, timings: Timings, ours: str, baseline: str, budget: Budget | None = None, *, note: str = ""
) -> Row:
    """Speed-up over `baseline`; ways are named by `ours` and `baseline`, figures in milliseconds."""
    return _beside(part, figure, timings, ours, baseline, budget, note, slower=baseline)


def over_limit(
    part: str, figure: str, timings: Timings, ours: str, limit: str, budget: Budget | None = None, *, note: str = ""
) -> Row:
    """Multiple of the time of `limit`, a lower bound; figures in milliseconds."""
    return _beside(part, figure, timings, ours, limit, budget, note, slower=ours)


def _beside(
    part: str, figure: str, timings: Timings, ours: str, other: str, budget: Budget | None, note: str, slower: str
) -> Row:
    faster = other if slower == ours else ours
    return Row(
        part=part,
        figure=figure,
        unit="ms",
        ours=1e3 * timings.seconds(ours),
        baseline=other,
        baseline_value=1e3 * timings.seconds(other),
        ratio=timings.ratio(slower, faster),
        cpu_ratio=timings.cpu_ratio(slower, faster),
        of="ours / baseline" if slower == ours else "baseline / ours",
        budget=budget,
        note=note,
    )

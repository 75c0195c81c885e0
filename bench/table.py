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

from data_specs.io.files import Json


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
        part: of the benchmark, filled in by the command.
    """

    figure: str
    unit: str = ""
    ours: float | None = None
    baseline: str = ""
    baseline_value: float | None = None
    ratio: float | None = None
    cpu_ratio: float | None = None
    of: str = ""
    budget: Budget | None = None
    note: str = ""
    part: str = ""

    @property
    def met(self) -> bool | None:
        """Whether the budget is kept; None where there is none. A missing figure misses its budget."""
        if self.budget is None:
            return None
        value = self.ours if self.ratio is None else self.ratio
        return value is not None and self.budget.holds(value)

    def to_json(self) -> Json:
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

    def add(self, way: str, wall: float, cpu: float | None = None) -> None:
        """Add a round of `way`."""
        self.wall.setdefault(way, []).append(wall)
        if cpu is not None:
            self.cpu.setdefault(way, []).append(cpu)

    def seconds(self, way: str) -> float:
        """Median seconds of a unit of work."""
        return statistics.median(self.wall[way])

    def least(self, way: str) -> float:
        """Least seconds of a unit of work."""
        return min(self.wall[way])

    def rate(self, way: str) -> float:
        """Median units of work a second."""
        return statistics.median(1 / seconds for seconds in self.wall[way])

    def ratio(self, above: str, below: str) -> float:
        """Median over the rounds of seconds of `above` divided by seconds of `below`."""
        return _median_ratio(self.wall[above], self.wall[below])

    def row(
        self,
        figure: str,
        ours: str,
        baseline: str,
        budget: Budget | None = None,
        note: str = "",
        *,
        unit: str = "ms",
        limit: bool = False,
    ) -> Row:
        """Return the row of `ours` beside `baseline`.

        Args:
            figure, budget, note: of the row.
            ours, baseline: names of the ways.
            unit: milliseconds of a unit of work, or units of work a second where it ends in `/s`.
            limit: the baseline is a lower bound of the time: the ratio says how many times slower ours is, instead of
                how many times faster.
        """
        above, below = (ours, baseline) if limit else (baseline, ours)
        rate = unit.endswith("/s")
        value, other = (self.rate(way) if rate else 1e3 * self.seconds(way) for way in (ours, baseline))
        cpu_ratio = _median_ratio(self.cpu[above], self.cpu[below]) if self.cpu else None
        of = "ours / baseline" if limit or rate else "baseline / ours"
        return Row(figure, unit, value, baseline, other, self.ratio(above, below), cpu_ratio, of, budget, note)


def _median_ratio(above: list[float], below: list[float]) -> float:
    return statistics.median(a / b for a, b in zip(above, below, strict=True))


def interleaved(
    ways: Mapping[str, Callable[[], int | None]],
    repeats: int,
    warm_ups: int = 1,
    cpu_clock: Callable[[], float] | None = time.process_time,
) -> Timings:
    """Run the ways in turn, `repeats` rounds after `warm_ups` that do not count.

    A way returns how many units of work it did, or None for one. `cpu_clock` gives processor seconds; None where other
    processes take part.
    """
    timings = Timings()
    for number in range(warm_ups + repeats):
        for way, work in ways.items():
            wall, cpu = time.perf_counter(), cpu_clock() if cpu_clock else 0.0
            units = work()
            units = 1 if units is None else units
            wall, cpu = time.perf_counter() - wall, (cpu_clock() if cpu_clock else 0.0) - cpu
            if number >= warm_ups:
                timings.add(way, wall / units, cpu / units if cpu_clock else None)
    return timings

"""Rows of results with budgets, and interleaved timing of alternatives.

On a shared machine, measurements at different times cannot be compared. Therefore alternatives run in turn, and the
median of the ratios of successive measurements is used. Processor seconds of this process are recorded too, since other
programs do not affect them.
"""

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from data_specs.io.files import Json

Work = Callable[[], int | None]  # returns its units of work, or None for one


@dataclass(frozen=True)
class Budget:
    """Bound of the ratio of a row or, if it has no ratio, of its figure `ours`."""

    sense: Literal["at least", "at most"]
    bound: float

    def holds(self, value: float) -> bool:
        """Return whether `value` is within the bound; a value equal to the bound is."""
        return value >= self.bound if self.sense == "at least" else value <= self.bound

    def __str__(self) -> str:
        return f"{'≥' if self.sense == 'at least' else '≤'} {self.bound:g}"


def at_least(bound: float) -> Budget:
    """Return the budget of a figure that must be `bound` or more."""
    return Budget("at least", bound)


def at_most(bound: float) -> Budget:
    """Return the budget of a figure that must be `bound` or less."""
    return Budget("at most", bound)


@dataclass(frozen=True)
class Row:
    """A measured figure and its baseline.

    Attributes:
        figure: name of the figure, with its conditions (threads, batch).
        unit: unit of `ours` and `baseline_value`.
        ours: figure of this project; None if it could not be measured, with the reason in `note`.
        baseline: name of the baseline; empty without one.
        baseline_value: figure of the baseline.
        ratio: median ratio of successive measurements, to which the budget applies.
        cpu_ratio: the same in processor time; None if several processes are involved.
        of: numerator and denominator of the ratios, as text.
        budget: bound of `ratio` or `ours`.
        note: remarks.
        part: part of the benchmark, set by the command.
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
        """Whether the ratio, or `ours` without one, meets the budget; false without both, None without a budget."""
        if self.budget is None:
            return None
        value = self.ours if self.ratio is None else self.ratio
        return value is not None and self.budget.holds(value)

    def to_json(self) -> Json:
        """Return the fields and `met` as a JSON object."""
        return {**asdict(self), "met": self.met}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "Row":
        """Return the row of a JSON object that `to_json` returned."""
        fields = {name: part for name, part in value.items() if name != "met"}
        budget = fields.pop("budget")
        return cls(**fields, budget=Budget(**budget) if budget else None)


@dataclass
class Timings:
    """Wall-clock and processor seconds per unit of work, a list by name of the way, with one entry per round."""

    wall: dict[str, list[float]] = field(default_factory=dict)
    cpu: dict[str, list[float]] = field(default_factory=dict)

    def add(self, way: str, wall: float, cpu: float | None = None) -> None:
        """Add the seconds per unit of work of one round of `way`; `cpu` is None if processor time was not measured."""
        self.wall.setdefault(way, []).append(wall)
        if cpu is not None:
            self.cpu.setdefault(way, []).append(cpu)

    def seconds(self, way: str) -> float:
        """Return the median over rounds of the wall-clock seconds of `way` per unit of work."""
        return statistics.median(self.wall[way])

    def least(self, way: str) -> float:
        """Return the least over rounds of the wall-clock seconds of `way` per unit of work."""
        return min(self.wall[way])

    def rate(self, way: str) -> float:
        """Return the median over rounds of the units of work of `way` per wall-clock second."""
        return statistics.median(1 / seconds for seconds in self.wall[way])

    def ratio(self, above: str, below: str) -> float:
        """Return the median over rounds of the wall-clock seconds of `above` divided by those of `below`."""
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
        """Return the row of the way `ours` beside the way `baseline`.

        Both ratios are the seconds of the baseline divided by those of ours, or if `limit` ours divided by the
        baseline.

        Args:
            figure, budget, note: fields of the row.
            ours, baseline: names of the ways.
            unit: unit of milliseconds per unit of work, or if it ends in `/s` of units of work per second.
            limit: whether the baseline is a lower bound of the time.
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
    ways: Mapping[str, Work],
    repeats: int,
    warm_ups: int = 1,
    cpu_clock: Callable[[], float] | None = time.process_time,
) -> Timings:
    """Time the ways in turn, each once per round.

    Args:
        ways: functions by name, which return their units of work, or None for one.
        repeats: number of rounds.
        warm_ups: number of rounds before them that are not recorded.
        cpu_clock: function that returns processor seconds; None to record none, if other processes are involved.
    """
    timings = Timings()
    for number in range(warm_ups + repeats):
        for way, work in ways.items():
            wall, cpu = time.perf_counter(), cpu_clock() if cpu_clock else 0.0
            done = work()
            units = 1 if done is None else done
            wall, cpu = time.perf_counter() - wall, (cpu_clock() if cpu_clock else 0.0) - cpu
            if number >= warm_ups:
                timings.add(way, wall / units, cpu / units if cpu_clock else None)
    return timings

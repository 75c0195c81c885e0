"""Benchmark results as Markdown, and a plot of ratios to their budgets."""

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any

from bench.table import Row
from data_specs.viz.figures import FAINT, INK, STYLE

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MET_COLOUR, MISSED_COLOUR = "#009E73", "#D55E00"  # of Okabe and Ito, for colour-blind readers
LABEL_CHARACTERS = 68


def number(value: float | None) -> str:
    """Return a number as text, a dash for None.

    Below 100 it has up to three significant digits, from 100 on none after the decimal point, and below 0.01 two
    significant digits with an exponent.
    """
    if value is None:
        return "–"
    if value == 0 or 0.01 <= abs(value) < 100:
        return f"{value:.3g}"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.1e}"


def markdown(rows: Sequence[Row], about: Mapping[str, Any]) -> str:
    """Return the report of `rows` as Markdown; `about` has the facts of the run, as in results.json."""
    lines = [
        "# Benchmark",
        "",
        f"`{about['command']}` on {about['date']}: {about['machine']}; {about['versions']}; "
        f"{about['seconds']:.0f} s in all, load {about['load']} on {about['cores']} cores.",
        "",
        "Alternatives run in turn on the same clips. A ratio is the median over pairs of neighbours in time, "
        "so other load affects both sides; *CPU* is the same ratio in processor seconds, which other "
        "programs do not change. Written by `make bench`; every row is in `results.json`.",
        "",
        "![budgets](results.svg)",
        "",
        "| part | figure | ours | baseline | ratio | CPU | budget | |",
        "|---|---|---:|---|---:|---:|---:|---|",
    ]
    for part, group in groupby(rows, key=lambda row: row.part):
        name = part
        for row in group:
            lines.append(_line(row, name))
            name = ""
    notes = [f"- {row.figure}: {row.note}" for row in rows if row.note]
    return "\n".join([*lines, "", "## Notes", "", *notes, ""])


def _line(row: Row, part: str) -> str:
    ours = f"{number(row.ours)} {row.unit}" if row.ours is not None else "not measured"
    beside = f"{row.baseline}: {number(row.baseline_value)} {row.unit}" if row.baseline else ""
    ratio = f"{number(row.ratio)}" if row.ratio is not None else ""
    cpu = f"{number(row.cpu_ratio)}" if row.cpu_ratio is not None else ""
    budget = f"{row.budget}" if row.budget else ""
    met = {True: "met", False: "**missed**", None: ""}[row.met]
    return f"| {part} | {row.figure} | {ours} | {beside} | {ratio} | {cpu} | {budget} | {met} |"


def headroom(row: Row) -> float | None:
    """Return by what factor the ratio of a row is better than its budget, below 1 if it is worse.

    It is None without a ratio or a budget, or for a bound of 0.
    """
    if row.budget is None or row.ratio is None or not row.budget.bound:
        return None
    return row.ratio / row.budget.bound if row.budget.sense == "at least" else row.budget.bound / row.ratio


def plot(rows: Sequence[Row], about: Mapping[str, Any]) -> "Figure":
    """Return a figure with a bar for each row that has a `headroom`, on a logarithmic axis; `about` gives its title."""
    import matplotlib
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter, NullFormatter

    shown = [(row, headroom(row)) for row in rows]
    bars = [(row, value) for row, value in shown if value is not None]
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(8.2, 0.9 + 0.34 * max(1, len(bars))), layout="constrained")
        axis = figure.subplots()
        places = range(len(bars))
        colours = [MET_COLOUR if row.met else MISSED_COLOUR for row, _ in bars]
        axis.barh(places, [value - 1 for _, value in bars], left=1, color=colours, height=0.56)
        axis.set_xscale("log")
        axis.axvline(1, color=INK, linewidth=0.9)
        axis.set_yticks(places, [f"{row.part}: {row.figure}"[:LABEL_CHARACTERS] for row, _ in bars])
        axis.invert_yaxis()
        low, high = min([0.8, *(value for _, value in bars)]), max([1.25, *(value for _, value in bars)])
        axis.set_xlim(low / 1.6, high * 2.4)
        for place, (row, value) in zip(places, bars, strict=True):
            axis.annotate(
                f"{number(row.ratio)}×  ({row.budget})",
                (max(value, 1), place),
                xytext=(4, 0),
                textcoords="offset points",
                va="center",
                fontsize=7,
            )
        axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}×"))
        axis.xaxis.set_minor_formatter(NullFormatter())
        axis.grid(axis="x", color=FAINT, alpha=0.25, linewidth=0.5)
        axis.set_axisbelow(True)
        axis.tick_params(left=False)
        axis.spines["left"].set_visible(False)
        axis.set_xlabel("ratio to the budget; labels: measured ratio and budget")
        axis.set_title(f"{about['machine']}, {about['date']}", fontsize=8, loc="left", color=FAINT)
    return figure

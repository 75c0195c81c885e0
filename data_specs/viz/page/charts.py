"""Histograms and bars in plain HTML, which scale, print and follow the reader's light or dark theme."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from data_specs.viz.page.markup import Markup, element


@dataclass(frozen=True)
class Bin:
    """One bar of a histogram.

    `label` is below the bar unless empty; `meaning` is its tooltip, followed by the count; `colour` is a CSS color, the
    default color if empty.
    """

    count: int
    label: str
    meaning: str
    colour: str = ""


def histogram(title: str, unit: str, bins: Sequence[Bin]) -> Markup:
    """Return bars side by side, the highest filling the height; `unit` is written after the title."""
    most = max((one.count for one in bins), default=0) or 1
    bars = [
        element(
            "span",
            element("i", style=f"height:{100 * one.count / most:.2f}%{_colour(one)}"),
            element("em", one.label) if one.label else Markup(""),
            title=f"{one.meaning}: {one.count:,}",
        )
        for one in bins
    ]
    total = sum(one.count for one in bins)
    summary = f"{title}: {total:,} in {len(bins)} bins, most at {_most(bins)}"
    return element(
        "figure",
        element("figcaption", element("b", title), f" {unit}"),
        element("div", *bars, class_="bars", role="img", aria_label=summary),
        class_="histogram",
    )


def shares(rows: Sequence[tuple[str, int]], total_label: str = "") -> Markup:
    """Return counts by name as horizontal bars, in the order of `rows`; the largest count fills the width.

    `total_label` is the caption; there is none if it is empty.
    """
    most = max((count for _, count in rows), default=0) or 1
    lines = [
        element(
            "div",
            element("span", name),
            element("i", element("u", style=f"width:{100 * count / most:.2f}%")),
            element("b", f"{count:,}"),
        )
        for name, count in rows
    ]
    caption = [element("figcaption", total_label)] if total_label else []
    return element("figure", *caption, *lines, class_="shares")


def binned(values: Sequence[float] | np.ndarray, edges: Sequence[float]) -> list[int]:
    """Return the counts of `values` between successive `edges`; values beyond them count in the first or last bin."""
    clipped = np.clip(np.asarray(values, float), edges[0], np.nextafter(edges[-1], edges[0]))
    return [int(count) for count in np.histogram(clipped, edges)[0]]


def _most(bins: Sequence[Bin]) -> str:
    return max(bins, key=lambda one: one.count).meaning if bins else "none"


def _colour(one: Bin) -> str:
    return f";background:{one.colour}" if one.colour else ""


def ranges(title: str, unit: str, values: Sequence[float] | np.ndarray, edges: Sequence[float], every: int) -> Markup:
    """Return a histogram of `values` over `edges`, as `binned` counts them.

    Every `every`-th bin is labelled with its lower edge; all have both edges in the tooltip.
    """
    counts = binned(values, edges)
    bins = [
        Bin(count, _edge_label(edges[k]) if k % every == 0 else "", f"{edges[k]:.5g} to {edges[k + 1]:.5g}")
        for k, count in enumerate(counts)
    ]
    return histogram(title, unit, bins)


def _edge_label(edge: float) -> str:
    return f"{edge:.0f}" if edge == round(edge) else f"{edge:.2g}"

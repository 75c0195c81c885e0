"""Figures of clips: mel spectrograms above the curves that they should follow, on one time axis.

Figures have a lane for each control, as its `lane` states. `png` gives the same bytes in every run. Colors are those
of Okabe and Ito, distinguishable with color blindness.
"""

import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from data_specs.arrays import Float32
from data_specs.controls import CHROMA_STEPS, CONTROLS, NOTES, UNCONDITIONED, VELOCITY
from data_specs.controls.curves import true_spans, unconditioned_spans
from data_specs.controls.pitch import PITCH_ORIGIN, PITCH_SPAN, is_black, note_name
from data_specs.rates import SAMPLE_RATE
from data_specs.viz.spectrogram import HOP, RANGE_DB, band_hz, ceiling_db, mel_db

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, FAINT, PAPER = "#1d2433", "#8a93a5", "#ffffff"
VELOCITY_COLOUR, CHROMA_COLOUR, LINE_COLOUR = "#0072B2", "#D55E00", "#009E73"
LANE_HEIGHTS = {"area": 1.0, "notes": 1.2, "pitch": 1.5, "line": 0.8}  # inches; strips by their rows
SPECTROGRAM_HEIGHT = 3.4
INSTRUMENT_COLOURS = ("#56B4E9", "#E69F00", "#009E73", "#CC79A7", "#0072B2", "#D55E00", "#F0E442")
COLOUR_MAP = "magma"
MEL_TICKS_HZ = (125, 250, 500, 1000, 2000, 4000)
ONE_OCTAVE = 12.0  # semitones: the range of a piano roll above which only C and G are labelled
DPI = 160

STYLE = {
    "font.family": "DejaVu Sans",
    "font.size": 8,
    "text.color": INK,
    "axes.edgecolor": FAINT,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": FAINT,
    "ytick.color": FAINT,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "figure.facecolor": PAPER,
    "hatch.linewidth": 0.5,
    "text.parse_math": False,  # names may hold dollar signs
}


@dataclass(frozen=True)
class Panel:
    """One column of a figure.

    Attributes:
        title: text above the spectrogram.
        audio: float [N] at 24 kHz.
        controls: arrays by feature as `Curves.arrays` gives them, [T] or [R, T]; -1 is unconditioned.
        hop: samples between the frames of `controls`.
    """

    title: str
    audio: NDArray[np.floating]
    controls: Mapping[str, NDArray[np.floating]]
    hop: int


def panels_figure(panels: Sequence[Panel], instruments: Sequence[str], title: str = "") -> "Figure":
    """Return a figure with a column for each clip: its spectrogram above its controls.

    All columns share the color scale and, in each row, the axes. A control that a clip lacks leaves its lane empty.
    `instruments` are the names of the rows of the control `instruments`; `title` is above the whole figure.
    """
    import matplotlib
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    with matplotlib.rc_context(STYLE):
        names = [name for name in CONTROLS if any(name in panel.controls for panel in panels)]
        strip = 0.28 * len(instruments) + 0.2
        rows = [SPECTROGRAM_HEIGHT, *(LANE_HEIGHTS.get(CONTROLS[name].lane, strip) for name in names)]
        width = 5.6 if len(panels) == 1 else 0.5 + 3.1 * len(panels)
        spacing = ConstrainedLayoutEngine(h_pad=0.02, hspace=0.03, w_pad=0.03)
        figure = Figure(figsize=(width, 0.78 * sum(rows)), layout=spacing)
        axes = figure.subplots(len(rows), len(panels), sharex=True, sharey="row", squeeze=False, height_ratios=rows)
        pictures = [mel_db(panel.audio) for panel in panels]
        ceiling = ceiling_db(pictures)
        for column, panel, levels in zip(axes.T, panels, pictures, strict=True):
            seconds = len(panel.audio) / SAMPLE_RATE
            _spectrogram(column[0], levels, ceiling)
            column[0].set_title(panel.title, fontsize=9, loc="left", pad=5)
            for axis, name in zip(column[1:], names, strict=True):
                if name in panel.controls:
                    _LANES[CONTROLS[name].lane](axis, name, panel, seconds, instruments)
                    _unconditioned(axis, panel.controls[name], panel.hop)
            column[-1].set_xlim(0, seconds)
            column[-1].set_xlabel("seconds")
        for inner in axes[:, 1:].flat:
            inner.tick_params(left=False)
        axes[0, 0].set_ylabel("Hz")
        for axis, name in zip(axes[1:, 0], names, strict=True):
            axis.set_ylabel("" if CONTROLS[name].lane == "strip" else name)
        figure.align_ylabels(axes[:, 0])
        if title:
            figure.suptitle(title, fontsize=10, x=0.01, ha="left")
    return figure


def sweep_figure(
    values: Sequence[float], measures: Mapping[str, Sequence[float]], label: str, better: Mapping[str, str]
) -> "Figure":
    """Return a figure with one plot for each measure, side by side, over the `values` of one sampling option.

    `values` are spaced evenly whatever their size.

    Args:
        values: of the option.
        measures: by name, one number for each of `values`.
        label: name of the option, below each plot.
        better: by name of a measure, a remark in brackets after the name; may lack names.
    """
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(2.4 * len(measures), 2.2), layout="constrained")
        for axis, (name, found) in zip(np.atleast_1d(figure.subplots(1, len(measures))), measures.items(), strict=True):
            axis.plot(range(len(values)), found, color=VELOCITY_COLOUR, marker="o", markersize=4, linewidth=1.4)
            axis.set_xticks(range(len(values)), [f"{value:g}" for value in values])
            axis.set_title(f"{name} ({better[name]})" if name in better else name, fontsize=8, loc="left")
            axis.set_xlabel(label)
            axis.margins(0.12)
    return figure


def png(figure: "Figure", dpi: int = DPI) -> bytes:
    """Return the figure as PNG, RGB, the same bytes in every run; sets the figure's `dpi`."""
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from PIL import Image

    with matplotlib.rc_context(STYLE):
        figure.set_dpi(dpi)
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
    buffer = io.BytesIO()
    Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3]).save(buffer, "PNG")
    return buffer.getvalue()


def _spectrogram(axis: "Axes", levels: Float32, ceiling: float) -> None:
    hz = band_hz()
    axis.imshow(
        levels,
        origin="lower",
        aspect="auto",
        cmap=COLOUR_MAP,
        vmin=ceiling - RANGE_DB,
        vmax=ceiling,
        extent=(-HOP / SAMPLE_RATE / 2, (levels.shape[1] - 0.5) * HOP / SAMPLE_RATE, -0.5, len(hz) - 0.5),
        interpolation="bilinear",
    )
    axis.set_yticks(np.interp(MEL_TICKS_HZ, hz, np.arange(len(hz))), [f"{tick:,}" for tick in MEL_TICKS_HZ])
    axis.spines[:].set_visible(False)
    axis.tick_params(bottom=False)


def _area(axis: "Axes", name: str, panel: Panel, seconds: float, instruments: Sequence[str]) -> None:
    times, levels = _steps(panel.controls[name], panel.hop, seconds)
    axis.fill_between(times, levels, color=VELOCITY_COLOUR, alpha=0.18, linewidth=0)
    axis.plot(times, levels, color=VELOCITY_COLOUR, linewidth=1.3)
    axis.set_ylim(0, 1.05)
    axis.set_yticks([0, 0.5, 1])


def _line(axis: "Axes", name: str, panel: Panel, seconds: float, instruments: Sequence[str]) -> None:
    axis.plot(*_steps(panel.controls[name], panel.hop, seconds), color=LINE_COLOUR, linewidth=1.3)
    axis.set_ylim(-0.05, 1.05)
    axis.set_yticks([0, 0.5, 1])


def _notes(axis: "Axes", name: str, panel: Panel, seconds: float, instruments: Sequence[str]) -> None:
    times, levels = _steps(panel.controls[name], panel.hop, seconds)
    if VELOCITY in panel.controls:  # chroma is 0 in rests without being a C
        levels = np.where(np.repeat(panel.controls[VELOCITY] == 0, 2), np.nan, levels)
    flat = np.where(np.diff(levels, append=levels[-1:]) == 0, levels, np.nan)  # no strokes from note to note
    axis.plot(times, levels * CHROMA_STEPS, color=CHROMA_COLOUR, linewidth=0.5, alpha=0.6)
    axis.plot(times, flat * CHROMA_STEPS, color=CHROMA_COLOUR, linewidth=2.0, solid_capstyle="butt")
    axis.set_ylim(-0.8, 11.8)
    axis.set_yticks([0, 4, 7, 11], [NOTES[k] for k in (0, 4, 7, 11)])
    axis.grid(axis="y", color=FAINT, alpha=0.25, linewidth=0.5)


def _pitch(axis: "Axes", name: str, panel: Panel, seconds: float, instruments: Sequence[str]) -> None:
    times, levels = _steps(panel.controls[name], panel.hop, seconds)
    midi = np.where(levels > 0, levels * PITCH_SPAN + PITCH_ORIGIN, np.nan)  # 0 is a rest
    axis.plot(times, midi, color=CHROMA_COLOUR, linewidth=1.6, solid_capstyle="butt")
    if np.isfinite(midi).any():
        low, high = float(np.nanmin(midi)) - 2, float(np.nanmax(midi)) + 2
        if axis.lines[1:] or axis.get_autoscaley_on() is False:  # panels of a row share the axis
            low, high = min(low, axis.get_ylim()[0]), max(high, axis.get_ylim()[1])
        for key in filter(is_black, range(int(low) - 1, int(high) + 2)):
            axis.axhspan(key - 0.5, key + 0.5, color=FAINT, alpha=0.12, linewidth=0, zorder=0)
        labelled = (0, 7) if high - low > ONE_OCTAVE else (0, 2, 4, 5, 7, 9, 11)
        ticks = [key for key in range(math.ceil(low), int(high) + 1) if key % 12 in labelled]
        axis.set_yticks(ticks, [note_name(key) for key in ticks])
        axis.set_ylim(low, high)


def _strip(axis: "Axes", name: str, panel: Panel, seconds: float, instruments: Sequence[str]) -> None:
    for row, instrument in enumerate(instruments):
        colour = INSTRUMENT_COLOURS[row % len(INSTRUMENT_COLOURS)]
        edges = []
        for start, stop in true_spans(panel.controls[name][row] > 0.5):
            first = start * panel.hop / SAMPLE_RATE
            edges.append((first, min(stop * panel.hop / SAMPLE_RATE, seconds) - first))
        axis.broken_barh(edges, (row - 0.36, 0.72), facecolors=colour)
        axis.set_label(instrument)
    axis.set_ylim(len(instruments) - 0.4, -0.6)
    axis.set_yticks(range(len(instruments)), instruments)
    axis.tick_params(left=False)
    axis.spines["left"].set_visible(False)


_LANES = {"area": _area, "line": _line, "notes": _notes, "pitch": _pitch, "strip": _strip}


def _steps(values: NDArray[np.floating], hop: int, seconds: float) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
    """Return times in s and levels, [2 T] each, of the corners of a curve that holds each frame's value until the next.

    Levels are NaN where it is unconditioned; times end at `seconds`.
    """
    edges = np.minimum(np.arange(len(values) + 1) * hop / SAMPLE_RATE, seconds)
    times = np.repeat(edges, 2)[1:-1]
    levels = np.repeat(np.where(values == UNCONDITIONED, np.nan, values), 2)
    return times, levels


def _unconditioned(axis: "Axes", values: NDArray[np.floating], hop: int) -> None:
    """Hatch and label the spans of time in which a control, [T] or [R, T], is unconditioned."""
    for start, stop in unconditioned_spans(values):
        first, last = start * hop / SAMPLE_RATE, stop * hop / SAMPLE_RATE
        axis.axvspan(
            first,
            last,
            facecolor="none",
            edgecolor=FAINT,
            alpha=0.45,
            hatch="////",
            lw=0,
        )
        low, high = axis.get_ylim()
        axis.text(
            (first + last) / 2,
            (low + high) / 2,
            "unconditioned",
            ha="center",
            va="center",
            fontsize=7,
            style="italic",
            bbox={"facecolor": PAPER, "edgecolor": "none", "pad": 1.5},
        )

"""Figures: positions match the arrays, and the bytes are the same in every run."""

import io

import numpy as np
import pytest
from PIL import Image

from data_specs.controls.curve_files import parse_value
from data_specs.viz.figures import Panel, panels_figure, png, sweep_figure

PVT = ("piano", "violin", "trumpet")
DRAWN = {
    "version": 1,
    "velocity": [[0, 0.25], [1, 0.75], [1, None]],
    "chroma": [[0, "C"], [1, "G"]],
    "instruments": [[0, "piano"], [1, "trumpet"], [1.6, None]],
}


@pytest.fixture
def panel():
    arrays = parse_value(DRAWN).arrays(PVT, 48_000, 150, 320)
    audio = 0.5 * np.sin(2 * np.pi * 440 * np.arange(48_000) / 24_000)
    return Panel("a <title> with $\\frac signs$", audio.astype(np.float32), arrays, 320)


def test_rows_share_one_time_axis_in_seconds(panel):
    figure = panels_figure([panel], PVT)
    assert len(figure.axes) == 4
    assert {axis.get_xlim() for axis in figure.axes} == {(0.0, 2.0)}
    assert figure.axes[0].get_title(loc="left") == panel.title


def test_curves_stand_where_the_arrays_say(panel):
    _, velocity, chroma, instruments = panels_figure([panel], PVT).axes
    times, levels = velocity.lines[0].get_data()
    drawn = ~np.isnan(levels)
    assert times[drawn].min() == 0
    assert times[drawn].max() == 1
    assert levels[drawn][[0, -1]] == pytest.approx([0.25, 0.75], abs=0.01)
    times, levels = chroma.lines[0].get_data()
    assert levels[times < 1] == pytest.approx(0)
    assert levels[times > 1] == pytest.approx(7)
    bars = [[path.get_extents().bounds for path in one.get_paths()] for one in instruments.collections]
    assert [[(x, width) for x, _, width, _ in row] for row in bars] == [[(0, 1)], [], [(1, pytest.approx(0.6))]]
    assert [label.get_text() for label in instruments.get_yticklabels()] == list(PVT)


def test_unconditioned_time_is_hatched_and_labeled(panel):
    _, velocity, chroma, instruments = panels_figure([panel], PVT).axes
    spans = {axis: [(patch.get_x(), patch.get_width()) for patch in axis.patches] for axis in (velocity, instruments)}
    assert spans == {velocity: [(1, 1)], instruments: [(pytest.approx(1.6), pytest.approx(0.4))]}
    assert not chroma.patches
    assert [text.get_text() for text in velocity.texts] == ["unconditioned"]


def test_spectrograms_side_by_side_share_their_colours(panel):
    soft = Panel("soft", panel.audio / 100, panel.controls, panel.hop)
    figure = panels_figure([panel, soft], PVT, "both")
    loud_image, soft_image = (axis.images[0] for axis in figure.axes[:2])
    assert loud_image.get_clim() == soft_image.get_clim()
    assert loud_image.get_array().max() - soft_image.get_array().max() == pytest.approx(40, abs=0.1)


def test_bytes_are_the_same_in_every_run(panel):
    first, second = panels_figure([panel], PVT), panels_figure([panel], PVT)
    assert png(first) == png(second)
    assert Image.open(io.BytesIO(png(first))).size[0] > 600


def test_a_sweep_draws_each_measure_over_its_values():
    figure = sweep_figure([0, 10, 40], {"FAD": [5, 4, 6], "chroma": [0.5, 0.6, 0.7]}, "S_churn", {"FAD": "lower"})
    assert [axis.get_title(loc="left") for axis in figure.axes] == ["FAD (lower)", "chroma"]
    assert list(figure.axes[0].lines[0].get_ydata()) == [5, 4, 6]
    assert [label.get_text() for label in figure.axes[0].get_xticklabels()] == ["0", "10", "40"]


def test_each_control_of_the_clip_has_a_lane_and_rests_are_gaps(panel):
    curves = {
        "velocity": [[0, 0.5], [1, 0.5], [1, None]],
        "chroma": [[0, "E"], [1, "rest"]],
        "pitch": [[0, "E3"], [1, "E4"], [1, "rest"]],
        "brightness": [[0, 0], [2, 1]],
        "instruments": "piano",
    }
    controls = parse_value({"version": 1, **curves}).arrays(PVT, 48_000, 150, 320, tuple(curves))
    axes = panels_figure([Panel("all", panel.audio, controls, 320)], PVT).axes
    assert [axis.get_ylabel() for axis in axes] == ["Hz", "velocity", "chroma", "pitch", "brightness", ""]
    for lane, first, last in ((axes[2], 4, 4), (axes[3], 52, 64)):
        times, levels = lane.lines[0].get_data()
        assert np.isnan(levels[times > 1.001]).all()
        assert levels[times < 0.99][[0, -1]] == pytest.approx([first, last], abs=0.3)
    low, high = axes[3].get_ylim()
    assert low < 51 < 65 < high
    assert [label.get_text() for label in axes[3].get_yticklabels()] == ["G3", "C4"]

"""Power laws of a run read off its log and its stored averages."""

import numpy as np
import pytest

from bench.scaling import figure, fit_power_law, losses, step_seconds, table

POINTS = [
    {"step": step, "fad": 4000 / step**0.5, "chroma": 0.9, "onsets": 0.8, "velocity_rank": 0.7} for step in (10, 40)
]


def test_a_power_law_is_found_exactly():
    x = np.array([1.0, 3.0, 10.0])
    assert fit_power_law(x, 5 * x**-0.25) == pytest.approx((5, -0.25))


def test_a_step_takes_its_time_on_an_idle_machine():
    log = [{"step": 1, "valid_loss": 2.0}, *({"step": step, "clips_per_second": 10.0 + step} for step in range(11))]
    assert step_seconds(log, 38) == pytest.approx(2.0)


def test_losses_leave_out_the_start():
    log = [{"step": 0, "valid_loss": 1.0}, {"step": 10, "loss": 0.6}, {"step": 20, "valid_loss": 0.5}]
    np.testing.assert_array_equal(losses(log), [[20, 0.5]])


def test_the_table_and_the_figure_are_in_core_seconds():
    valid = np.array([[10, 0.5], [40, 0.25]])
    assert "| 40 | 80 | 0.2500 | 632.5 | 0.900 | 0.800 | 0.700 |" in table(POINTS, valid, 2.0)
    loss, fad = figure(valid, POINTS, 2.0).axes
    np.testing.assert_allclose(loss.lines[0].get_xdata(), [20, 80])
    assert fad.get_legend().get_texts()[0].get_text() == "exponent -0.500"

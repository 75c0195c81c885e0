"""The table of solvers: numbers of steps at equal evaluations, and errors that fall."""

import pytest

from bench import solvers


@pytest.mark.parametrize(
    ("name", "evaluations", "steps"), [("heun", 35, 18), ("heun", 4, 2), ("ipndm", 18, 18), ("dpmpp_2m", 4, 4)]
)
def test_steps_take_at_most_the_evaluations(name, evaluations, steps):
    assert solvers.steps_within(name, evaluations) == steps


def test_the_table_has_a_row_for_each_number_of_evaluations():
    rows = [(4, dict.fromkeys(solvers.NAMES, 0.5)), (35, dict.fromkeys(solvers.NAMES, 0.01))]
    assert solvers.table(rows).splitlines()[2:] == ["| 4 | 0.500 | 0.500 | 0.500 |", "| 35 | 0.010 | 0.010 | 0.010 |"]

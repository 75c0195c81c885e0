"""Counting what was left out."""

import json
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.rejects import Rejected, Rejects

events = st.lists(st.tuples(st.sampled_from(["no notes", "timeout"]), st.text(max_size=3)), max_size=30)


@pytest.fixture(autouse=True, scope="module")
def _three_examples() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pipeline.rejects.EXAMPLES", 3)
        yield


def counted(pairs: list[tuple[str, str]]) -> Rejects:
    rejects = Rejects()
    for reason, example in pairs:
        rejects.add(reason, example)
    return rejects


@given(events, events, events)
def test_merging_does_not_depend_on_grouping_or_order(a, b, c):
    whole = counted(a + b + c)
    assert (counted(c) + counted(a)) + counted(b) == whole
    assert counted(b) + (counted(c) + counted(a)) == whole


@given(events)
def test_counts_every_event_and_keeps_the_first_examples_of_the_alphabet(pairs):
    rejects = counted(pairs)
    assert rejects.total == len(pairs)
    for reason in ("no notes", "timeout"):
        names = {name for kind, name in pairs if kind == reason and name}
        assert rejects.examples.get(reason, []) == sorted(names)[:3]


@given(events)
def test_json_round_trip(pairs):
    rejects = counted(pairs)
    assert Rejects.from_json(json.loads(json.dumps(rejects.to_json()))) == rejects


def test_a_rejection_is_counted_with_its_detail():
    rejects = Rejects()
    rejects.add_rejected(Rejected("ticks too large", "tick 9"), "a.mid")
    rejects.add("tail", count=4)
    assert rejects.to_json() == {
        "tail": {"count": 4, "examples": []},
        "ticks too large": {"count": 1, "examples": ["a.mid: tick 9"]},
    }

"""The table of promises names tests that exist and edits that apply; each edit is noticed (slow)."""

import ast
from functools import cache

import pytest

from tests.mutations import faults, selected, try_all
from tests.promises import PROMISES, markdown
from tests.promises.anchors import find_anchors
from tests.promises.promise import ROOT, TESTS

ANCHORS = find_anchors(ROOT)
BROKEN = [promise for promise in PROMISES if promise.mutations]


@cache
def functions_in(path: str) -> set[str]:
    """Names of the test functions in a file below tests/."""
    tree = ast.parse((TESTS / path).read_text(encoding="utf-8"))
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


@pytest.mark.parametrize("promise", PROMISES, ids=lambda promise: promise.kept[:50])
def test_every_test_exists(promise):
    assert promise.tests
    for test in promise.tests:
        path, _, name = test.partition("::")
        assert name in functions_in(path), test


@pytest.mark.parametrize("promise", BROKEN, ids=lambda promise: promise.kept[:50])
def test_every_edit_changes_the_code_below_its_anchor(promise):
    for mutation in promise.mutations:
        assert mutation.edited(ROOT, ANCHORS)


def test_every_anchor_is_used_once_and_unique():
    used = sorted(anchor for promise in PROMISES for mutation in promise.mutations for anchor, _ in mutation.edits)
    assert used == sorted(ANCHORS)
    assert all(len(files) == 1 for files in ANCHORS.values())


def test_the_table_for_people_is_up_to_date():
    """If not: python -m tests.promises."""
    assert (ROOT / "docs" / "promises.md").read_text(encoding="utf-8") == markdown()


def test_parts_of_the_edits_together_are_all_of_them():
    every = selected()
    assert every == [promise for promise in PROMISES if promise.mutations]
    assert selected(count=20) + selected(first=20, count=20) + selected(first=40) == every
    assert 0 < len(selected("guidance")) < len(every)


@pytest.mark.slow
@pytest.mark.parametrize("promise", BROKEN, ids=lambda promise: promise.kept[:50])
def test_every_edit_is_noticed(promise):
    assert not faults(try_all([promise]))

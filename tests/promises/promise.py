"""Promises, the tests that check them, and the edits of the code that break them."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.promises.anchors import Edits, edited, edited_toml

ROOT = Path(__file__).parents[2]
TESTS = ROOT / "tests"


@dataclass(frozen=True)
class Mutation:
    """Edits that break a promise: pairs of an anchor and an operator, or the new value of a TOML key."""

    edits: Edits

    def __str__(self) -> str:
        return self.edits[0][0]

    def edited(self, folder: Path, anchors: Mapping[str, list[Path]]) -> dict[Path, str]:
        """Return the new text of each file below `folder` that the edits change.

        Raises:
            ValueError: an anchor is missing, or the code below it is not what the operator changes.
        """
        if missing := [name for name, _ in self.edits if len(anchors.get(name, [])) != 1]:
            raise ValueError(
                f"anchors {missing} must be in one file each, got {[anchors.get(name) for name in missing]}"
            )
        new: dict[Path, str] = {}
        for path in {folder / anchors[name][0] for name, _ in self.edits}:
            here = [(name, edit) for name, edit in self.edits if folder / anchors[name][0] == path]
            edit = edited_toml if path.suffix == ".toml" else edited
            new[path] = edit(path.read_text(encoding="utf-8"), here)
        return new


@dataclass(frozen=True)
class Promise:
    """One row of the table.

    Attributes:
        fault: what may happen.
        kept: what then holds.
        tests: where it is checked: files below tests/, each with `::test_name`.
        mutations: edits that break it; none where the test itself does the damage (kill -9, fuzzing).
    """

    fault: str
    kept: str
    tests: tuple[str, ...]
    mutations: tuple[Mutation, ...] = ()


def mutation(*edits: Any) -> Mutation:
    """Build `mutation(anchor, operator, anchor, operator, ...)`."""
    return Mutation(tuple(zip(edits[::2], edits[1::2], strict=True)))


def promise(fault: str, kept: str, tests: str, *mutations: Mutation) -> Promise:
    """Build a row; `tests` are separated by blanks, and `::name` is in the file of the one before."""
    full: list[str] = []
    for name in tests.split():
        full.append(full[-1].partition("::")[0] + name if name.startswith("::") else name)
    return Promise(fault, kept, tuple(full), mutations)

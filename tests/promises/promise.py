"""A promise, the tests that hold it, and edits of the code that break it: with each of them a test must go red."""

from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
TESTS = ROOT / "tests"


@dataclass(frozen=True)
class Mutation:
    """An edit that breaks a promise: in `file`, each `old` becomes its `new`; every `old` occurs exactly once."""

    file: str
    edits: tuple[tuple[str, str], ...]

    def __str__(self) -> str:
        return f"{self.file}: {self.edits[0][1].strip() or 'nothing'!r:.70}"


def mutation(file: str, *edits: str) -> Mutation:
    """`mutation(file, old, new, old, new, ...)`."""
    return Mutation(file, tuple(zip(edits[::2], edits[1::2], strict=True)))


@dataclass(frozen=True)
class Promise:
    """One row of the table.

    Attributes:
        fault: what may happen.
        kept: what then holds.
        tests: where it is checked: files below tests/, each with `::test_name`.
        mutations: edits that break it; none where breaking it is the test itself (kill -9, damage, fuzzing).
    """

    fault: str
    kept: str
    tests: tuple[str, ...]
    mutations: tuple[Mutation, ...] = ()


def promise(fault: str, kept: str, tests: str, *mutations: Mutation) -> Promise:
    """`tests` are names separated by blanks; a name that starts with `::` is in the file of the one before."""
    full: list[str] = []
    for name in tests.split():
        full.append(full[-1].partition("::")[0] + name if name.startswith("::") else name)
    return Promise(fault, kept, tuple(full), mutations)

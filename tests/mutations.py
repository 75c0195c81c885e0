"""Breaks every promise on purpose and sees whether a test notices: `python -m tests.mutations [--only TEXT]`.

Works on a copy of the project. Each edit is tried in a process forked from one that has imported the heavy packages
and has done nothing else: no thread, no event loop of a test that ran before is missed in it.
`--first 20 --count 10` tries the promises 20 to 29 of those that have edits: a long run in parts.
An edit survives when all tests of its promise stay green; survivors are printed as JSON, and the exit status is 1.
"""

import argparse
import json
import multiprocessing
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from tests.promises import PROMISES
from tests.promises.promise import ROOT, Mutation, Promise

COPIED = ("data_specs", "pipeline", "training", "bench", "tests", "pyproject.toml")
HEAVY = ("numpy", "torch", "pyarrow.parquet", "pydantic", "hypothesis", "mido", "safetensors.torch", "pytest", "scipy")
SECONDS = 900  # for the tests of one promise; a mutant that hangs is noticed


class Tried(NamedTuple):
    """One edit and what became of it."""

    promise: Promise
    mutation: Mutation | None
    failed: bool
    seconds: float


def copied(folder: Path) -> Path:
    """A copy of the project's code and tests."""
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, folder / name)
    return folder


def applied(mutation: Mutation, folder: Path) -> str:
    """Edit the file in `folder`; returns its text before.

    Raises:
        ValueError: what shall be replaced is not there exactly once.
    """
    path = folder / mutation.file
    before = text = path.read_text(encoding="utf-8")
    for old, new in mutation.edits:
        if text.count(old) != 1:
            raise ValueError(f"{mutation.file} holds {old!r} {text.count(old)} times instead of once")
        text = text.replace(old, new)
    path.write_text(text, encoding="utf-8")
    return before


def fails(tests: Sequence[str], folder: Path) -> bool:
    """Whether any of the tests, run in `folder`, goes red (or does not end)."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(HEAVY))
    process = context.Process(target=_run, args=(list(tests), str(folder)))
    process.start()
    process.join(SECONDS)
    assert process.pid
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)  # what the tests have left running, too
    process.join()
    return process.exitcode != 0


def _run(tests: list[str], folder: str) -> None:
    import pytest

    os.chdir(folder)
    os.setsid()  # what a mutant leaves running is ended with its group
    os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
    sys.path[:] = [folder, *(path for path in sys.path if Path(path or ".").resolve() != ROOT)]
    for name in [name for name in sys.modules if name.partition(".")[0] in COPIED]:
        del sys.modules[name]
    silent = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silent, 1)
    os.dup2(silent, 2)
    options = ["-x", "-q", "-p", "no:cacheprovider", "-m", "not slow"]
    os._exit(pytest.main([*options, *(f"tests/{test}" for test in tests)]))


def try_all(promises: Sequence[Promise], say: bool = False, first: int = 0) -> list[Tried]:
    """Every promise's tests as they are, which must be green, then with each edit, which must be red.

    `say` prints each as it is known, under the promise's number, the first being `first`.
    """
    tried = []
    with tempfile.TemporaryDirectory() as scratch:
        folder = copied(Path(scratch).resolve())
        for number, promise in enumerate(promises, first):
            for mutation in (None, *promise.mutations):
                started = time.monotonic()
                before = applied(mutation, folder) if mutation else ""
                failed = fails(promise.tests, folder)
                if mutation:
                    (folder / mutation.file).write_text(before, encoding="utf-8")
                tried.append(Tried(promise, mutation, failed, time.monotonic() - started))
                if say:
                    state = "red" if failed else "green"
                    print(f"{number:3} {state:6}{tried[-1].seconds:6.1f} s  {mutation or promise.kept}", flush=True)
    return tried


def faults(tried: Sequence[Tried]) -> list[str]:
    """Edits that no test noticed, and promises whose tests are red without any."""
    return [
        f"no test notices {one.mutation} ({one.promise.kept})" if one.mutation else f"red as it is: {one.promise.tests}"
        for one in tried
        if one.failed is (one.mutation is None)
    ]


def selected(only: str = "", first: int = 0, count: int | None = None) -> list[Promise]:
    """Of the promises that have edits and `only` in their words or files, `count` from number `first` on."""
    with_edits = [promise for promise in PROMISES if promise.mutations]
    found = [p for p in with_edits if only in p.fault + p.kept + " ".join(str(m.file) for m in p.mutations)]
    return found[first:][:count]


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutations", description=__doc__)
    parser.add_argument("--only", default="", metavar="TEXT", help="promises or files with this in them")
    parser.add_argument("--first", type=int, default=0, metavar="N", help="number of the first of them (0)")
    parser.add_argument("--count", type=int, metavar="N", help="how many of them (all)")
    arguments = parser.parse_args()
    chosen = selected(arguments.only, arguments.first, arguments.count)
    if not chosen:
        parser.error("no promise with edits is left; ask for less")
    tried = try_all(chosen, say=True, first=arguments.first)
    found = faults(tried)
    mutants = sum(one.mutation is not None for one in tried)
    print(json.dumps({"mutations": mutants, "promises": len(chosen), "faults": found}, indent=1))
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())

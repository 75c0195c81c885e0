"""Mutation test: breaks every promise and checks that a test fails: `python -m tests.mutations [--only TEXT]`.

Works on a copy of the project. Each edit is tried in a process forked from a server that has only imported the heavy
packages, so no thread or event loop is inherited. `--first 20 --count 10` tries promises 20 to 29 of those with edits.
An edit survives when all tests of its promise pass; survivors are printed as JSON, and the exit status is 1.
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
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from tests.promises import PROMISES
from tests.promises.anchors import find_anchors
from tests.promises.promise import ROOT, Mutation, Promise

COPIED = ("data_specs", "pipeline", "training", "pvt", "bench", "tests", "pyproject.toml")
HEAVY = ("numpy", "torch", "pyarrow.parquet", "pydantic", "hypothesis", "mido", "safetensors.torch", "pytest", "scipy")
SECONDS = 900  # for the tests of one promise; a mutant that hangs counts as detected


class Tried(NamedTuple):
    """One edit and its outcome."""

    promise: Promise
    mutation: Mutation | None
    failed: bool
    seconds: float


def copied(folder: Path) -> Path:
    """Copy the project's code and tests."""
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, folder / name)
    return folder


@contextmanager
def edited_files(new: Mapping[Path, str]) -> Iterator[None]:
    """Files with other texts inside the block."""
    before = {path: path.read_text(encoding="utf-8") for path in new}
    for path, text in new.items():
        path.write_text(text, encoding="utf-8")
    try:
        yield
    finally:
        for path, text in before.items():
            path.write_text(text, encoding="utf-8")


def fails(tests: Sequence[str], folder: Path) -> bool:
    """Return whether any of the tests, run in `folder`, fails or does not end."""
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


def try_all(promises: Sequence[Promise], verbose: bool = False, first: int = 0) -> list[Tried]:
    """Run every promise's tests unchanged, which must pass, then with each edit, which must fail.

    `verbose` prints each outcome with the promise's number; the first is `first`.
    """
    tried = []
    with tempfile.TemporaryDirectory() as scratch:
        folder = copied(Path(scratch).resolve())
        for number, promise in enumerate(promises, first):
            for mutation in (None, *promise.mutations):
                started = time.monotonic()
                new = mutation.edited(folder, find_anchors(folder)) if mutation else {}
                with edited_files(new):
                    failed = fails(promise.tests, folder)
                tried.append(Tried(promise, mutation, failed, time.monotonic() - started))
                if verbose:
                    state = "fails" if failed else "passes"
                    print(f"{number:3} {state:7}{tried[-1].seconds:6.1f} s  {mutation or promise.kept}", flush=True)
    return tried


def faults(tried: Sequence[Tried]) -> list[str]:
    """Edits that no test detects, and promises whose tests fail without any."""
    return [
        f"no test detects {one.mutation} ({one.promise.kept})"
        if one.mutation
        else f"fails without an edit: {one.promise.tests}"
        for one in tried
        if one.failed is (one.mutation is None)
    ]


def selected(only: str = "", first: int = 0, count: int | None = None) -> list[Promise]:
    """Of the promises that have edits and `only` in their text or anchors, `count` from number `first` on."""
    with_edits = [promise for promise in PROMISES if promise.mutations]
    found = [p for p in with_edits if only in p.fault + p.kept + " ".join(map(str, p.mutations))]
    return found[first:][:count]


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutations", description=__doc__)
    parser.add_argument("--only", default="", metavar="TEXT", help="promises or anchors with this in them")
    parser.add_argument("--first", type=int, default=0, metavar="N", help="number of the first of them (0)")
    parser.add_argument("--count", type=int, metavar="N", help="how many of them (all)")
    arguments = parser.parse_args()
    chosen = selected(arguments.only, arguments.first, arguments.count)
    if not chosen:
        parser.error("--only, --first and --count select no promise with edits; select more")
    tried = try_all(chosen, verbose=True, first=arguments.first)
    found = faults(tried)
    mutants = sum(one.mutation is not None for one in tried)
    print(json.dumps({"mutations": mutants, "promises": len(chosen), "faults": found}, indent=1))
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())

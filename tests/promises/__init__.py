"""Guarantees under faults and hostile input, with the tests that check them.

`docs/promises.md` is this table for people: `python -m tests.promises` writes it.
"""

from tests.promises.datasets import CONTENT, FINISHING, PLAN
from tests.promises.hostile import INPUT, MACHINES
from tests.promises.models import DATA, SAMPLES, STEPS
from tests.promises.promise import Promise
from tests.promises.recordings import RECORDINGS

CHAPTERS: dict[str, tuple[Promise, ...]] = {
    "Selection of clips": PLAN,
    "Contents of clips": CONTENT,
    "Completing a dataset": FINISHING,
    "Recordings": RECORDINGS,
    "Training data": DATA,
    "Stopping and resuming training": STEPS,
    "Samples": SAMPLES,
    "Machines that fail": MACHINES,
    "Hostile and broken input": INPUT,
}
# Results of long runs.
MEASURED: tuple[str, ...] = (
    "2026-11-26, all long tests (`make test-slow`), 16 minutes on two cores: 103 edits of 53 promises, each detected, "
    "and every row passing without them; 20 kills of worker, scheduler or client and 20 of the trainer at random moments, "
    "each resumed to the same bytes; six toys; a GPU node in two calls and a kill. Later edits were tried one by one: all "
    "detected, but for one whose test was then made stricter.",
    "2026-11-22, edits: all but two were tried, in parts (`python -m tests.mutations --first N "
    "--count N`). One was missed "
    "(ranks that get no SIGTERM are killed 20 s later) and has a test now; each of the others was detected, and every row "
    "passed without them.",
    "2026-11-22, MIDI: inputs 0 to 99999 of seed 7, made of 378 real and odd files: no crash, no hang, no finding. Of "
    "the last 48 000, 30 395 were read around damage, the others by both readers or rejected under nine reasons; the "
    "slowest took 1.0 s, at most 88 MB in the child, half a minute for 12 500 inputs.",
)
PROMISES = tuple(promise for chapter in CHAPTERS.values() for promise in chapter)


def markdown() -> str:
    """The table of all chapters."""
    mutations = sum(len(promise.mutations) for promise in PROMISES)
    lines = [
        "# Guarantees and the tests that check them",
        "",
        f"{len(PROMISES)} promises. Paths are below `tests/`. *Broken by* counts the edits of the code that break the "
        f"promise on purpose, {mutations} in all: with each of them a test of that row fails "
        "(`python -m tests.mutations`). Tests of rows without edits do the damage themselves. "
        "Written by `python -m tests.promises`.",
        "",
    ]
    lines += ["## Results of long runs", "", *(f"- {line}" for line in MEASURED), ""]
    for title, chapter in CHAPTERS.items():
        lines += [f"## {title}", "", "| fault | promise | tests | broken by |", "|---|---|---|---:|"]
        lines += [_line(promise) for promise in chapter]
        lines.append("")
    return "\n".join(lines)


def _line(promise: Promise) -> str:
    tests = "<br>".join(f"`{test}`" for test in promise.tests)
    return f"| {promise.fault} | {promise.kept} | {tests} | {len(promise.mutations) or '–'} |"

"""Everything that this project promises to hold under faults, and the tests that hold it.

`docs/promises.md` is this table for people: `python -m tests.promises` writes it.
"""

from tests.promises.datasets import CONTENT, FINISHING, PLAN
from tests.promises.hostile import INPUT, MACHINES
from tests.promises.models import DATA, SAMPLES, STEPS
from tests.promises.promise import Promise

CHAPTERS: dict[str, tuple[Promise, ...]] = {
    "Which clips there are": PLAN,
    "What is in them": CONTENT,
    "How a dataset is finished": FINISHING,
    "What is trained on": DATA,
    "Training that stops and goes on": STEPS,
    "Samples": SAMPLES,
    "Machines that fail": MACHINES,
    "Hostile and broken input": INPUT,
}
# What long runs have shown; a run that adds to it is written here.
MEASURED: tuple[str, ...] = (
    "2026-11-26, all long tests (`make test-slow`), 16 minutes on two cores: 103 edits of 53 promises, every one noticed "
    "and every row green without them; 20 kills of worker, scheduler or client and 20 of the trainer at drawn moments, "
    "each continued to the same bytes; six toys; a whole GPU node in two calls and a kill. The rows and edits that came "
    "after it were tried one by one: all noticed, but for one whose test was then made stricter.",
    "2026-11-22, edits: all but two of the names on pages were tried, in parts (`python -m tests.mutations --first N "
    "--count N`). One went unnoticed "
    "(ranks that are not asked to stop are killed 20 s later, which no test saw) and has a test now; each of the others "
    "was noticed, and every row was green without them.",
    "2026-11-22, MIDI: inputs 0 to 99999 of seed 7, made of 378 real and odd files: no crash, no hang, no finding. Of "
    "the last 48 000, 30 395 were read around damage, the others by both readers or rejected under nine reasons; the "
    "slowest took 1.0 s, at most 88 MB in the child, half a minute for 12 500 inputs.",
)
PROMISES = tuple(promise for chapter in CHAPTERS.values() for promise in chapter)


def markdown() -> str:
    """The table of all chapters."""
    mutations = sum(len(promise.mutations) for promise in PROMISES)
    lines = [
        "# What is promised, and which test holds it",
        "",
        f"{len(PROMISES)} promises. Paths are below `tests/`. *Broken by* counts the edits of the code that break the "
        f"promise on purpose, {mutations} in all: with each of them a test of that row goes red "
        "(`python -m tests.mutations`). Rows without edits are tested by doing the damage itself. "
        "Written by `python -m tests.promises`.",
        "",
    ]
    lines += ["## What long runs have shown", "", *(f"- {line}" for line in MEASURED), ""]
    for title, chapter in CHAPTERS.items():
        lines += [f"## {title}", "", "| fault | promise | tests | broken by |", "|---|---|---|---:|"]
        lines += [_line(promise) for promise in chapter]
        lines.append("")
    return "\n".join(lines)


def _line(promise: Promise) -> str:
    tests = "<br>".join(f"`{test}`" for test in promise.tests)
    return f"| {promise.fault} | {promise.kept} | {tests} | {len(promise.mutations) or '–'} |"

"""Plain technical English: phrases that documentation, comments, messages and docstrings do not use."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = ("data_specs", "pipeline", "training", "pvt", "bench", "tests", "docs")
SUFFIXES = (".py", ".md", ".toml", ".js")
FILES = [
    *(
        path
        for folder in FOLDERS
        for path in (ROOT / folder).rglob("*")
        if path.suffix in (".py", ".md", ".toml", ".js")
    ),
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "Makefile")),
]
PHRASES = re.compile(
    r"\bstands? in\b(?! the way)|\bstand-ins?\b|\bmend(?:s|ed|ing)?\b|\bgo(?:es)? on\b|\bwhole numbers?\b|\bhangs? on\b"
    r"|\b(?:told|says?) nothing\b|\bnothing is to do\b|\basks? for nothing\b"
)
TITLES = re.compile(r'^\s*(?:def \w+.*)?"""(?:What|Who|Whoever|Where) [^?]*$')


@pytest.mark.parametrize("path", [path for path in FILES if path != Path(__file__)], ids=lambda path: str(path.name))
def test_text_avoids_phrases_that_need_a_second_reading(path):
    lines = path.read_text(encoding="utf-8").splitlines()
    found = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for number, line in enumerate(lines, 1)
        if PHRASES.search(line) or (path.suffix == ".py" and TITLES.match(line))
    ]
    assert not found

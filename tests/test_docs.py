"""The documentation builds strictly, links to pages that exist and loads nothing from other hosts."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from pvt.cli import VERBS

ROOT = Path(__file__).parents[1]
LINK = re.compile(r"\]\(([^)#\s]+)")
RESULTS = sorted((ROOT / "docs" / "results").glob("*.md"))
# What a page of results names: a command to type, a duration, and a number of things measured.
NAMED = {
    "a command": re.compile(r"(?:^|`)(?:make|pvt|python|pip) [a-z./-]+", re.M),
    "seconds": re.compile(r"\d(?: ms| s\b|[\d.]* (?:core-)?(?:seconds|minutes|hours))"),
    "N": re.compile(
        r"\bN\b[^a-z\n]*(?:\d|\|)|\d [^.|\n]{0,40}\b(?:clips|crops|files|requests|samples|phrases|songs)\b"
    ),
}


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    out = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--strict", "--site-dir", str(out)]
    found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=200)
    assert found.returncode == 0, found.stderr
    return out


def test_pages_load_nothing_from_other_hosts(site):
    pages = list(site.rglob("*.html"))
    assert len(pages) > 10
    for page in pages:
        text = page.read_text(encoding="utf-8")
        assert not re.findall(r"<(?:script|img|iframe|source)[^>]+src=[\"']?(?:https?:)?//[^\"'> ]+", text), page.name
        assert not re.findall(r"<link[^>]+href=[\"']?(?:https?:)?//[^\"'> ]+", text), page.name
    for sheet in site.rglob("*.css"):
        assert not re.search(r"(?:@import|url\()\s*[\"']?(?:https?:)?//", sheet.read_text(encoding="utf-8")), sheet.name


def test_the_api_reference_holds_signatures_and_docstrings(site):
    text = (site / "api.html").read_text(encoding="utf-8")
    for name in ("load_model", "Dataset", "Curves", "read_curves", "tf_dataset"):
        assert name in text


def test_the_readme_is_short_and_its_links_exist():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 150
    links = [link for link in LINK.findall(text) if "://" not in link]
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []


@pytest.mark.parametrize("page", RESULTS, ids=lambda page: page.stem)
def test_a_page_of_results_names_command_seconds_and_number(page):
    text = page.read_text(encoding="utf-8")
    assert [name for name, pattern in NAMED.items() if not pattern.search(text)] == []


def test_the_notebook_is_a_page_with_sounds_and_plots(site):
    text = (site / "draw-and-hear.html").read_text(encoding="utf-8")
    assert text.count("<audio") == text.count('src="data:image/png;base64,') == 2
    assert "pitch_accuracy" in text


def test_each_verb_has_a_section_and_each_extra_a_row():
    commands = (ROOT / "docs" / "commands.md").read_text(encoding="utf-8")
    assert [verb for verb in VERBS if f"\n## {verb}\n" not in commands] == []
    install = (ROOT / "docs" / "install.md").read_text(encoding="utf-8")
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert [extra for extra in extras if f"| `{extra}` |" not in install] == []

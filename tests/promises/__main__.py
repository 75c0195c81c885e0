"""Writes docs/promises.md."""

from tests.promises import markdown
from tests.promises.promise import ROOT

if __name__ == "__main__":
    (ROOT / "docs").mkdir(exist_ok=True)
    (ROOT / "docs" / "promises.md").write_text(markdown(), encoding="utf-8")

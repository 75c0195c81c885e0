"""Self-contained HTML pages: one file that loads nothing from a network.

The dataset report and the demo are made of the same parts: `document` holds `section`s, which hold what `tracks` and
`charts` give. Every text is escaped here, where it becomes HTML; the page's own policy forbids the browser to load
anything from elsewhere.
"""

from collections.abc import Iterable, Sequence
from html import escape
from importlib.resources import files

from data_specs.viz.page.markup import Markup, element, joined

__all__ = ["Markup", "document", "element", "joined", "paragraph", "section", "table", "tiles"]

POLICY = "default-src 'none'; img-src data:; media-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"


def document(title: str, lead: str, body: Iterable[Markup]) -> str:
    """Return an HTML page: `title` as heading, `lead` as a paragraph, and `body`, mostly sections.

    Style and the players' script are inside the page. `title` and `lead` are text.
    """
    parts = list(body)
    assets = files("data_specs.viz.page")
    style, script = (assets.joinpath(name).read_text(encoding="utf-8") for name in ("page.css", "page.js"))
    return (
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<meta name="color-scheme" content="light dark">\n'
        f"<title>{escape(title)}</title>\n<style>\n{style}</style>\n</head>\n<body>\n<main>\n"
        f"<header><h1>{escape(title)}</h1><p>{escape(lead)}</p></header>\n"
        f"{joined(parts, chr(10))}\n</main>\n<script>\n{script}</script>\n</body>\n</html>\n"
    )


def section(title: str, lead: str, body: Iterable[Markup]) -> Markup:
    """Return a section: the heading `title`, the paragraph `lead` unless it is empty, and `body`."""
    return element("section", element("h2", title), paragraph(lead), *body)


def paragraph(text: str) -> Markup:
    """Return a paragraph; empty Markup for an empty text."""
    return element("p", text) if text else Markup("")


def tiles(values: Sequence[tuple[str, str]]) -> Markup:
    """Return large figures with captions below them, of (figure, caption) pairs."""
    pairs = [element("div", element("b", figure), element("span", what)) for figure, what in values]
    return element("div", *pairs, class_="tiles")


def table(head: Sequence[str], rows: Iterable[Sequence[str]], numbers: Sequence[int] = ()) -> Markup:
    """Return a table with the header `head`; the columns whose indices are in `numbers` are aligned to the right."""

    def cell(tag: str, column: int, text: str) -> Markup:
        return element(tag, text, class_="number") if column in numbers else element(tag, text)

    header = element("thead", element("tr", *(cell("th", k, text) for k, text in enumerate(head))))
    body = [element("tr", *(cell("td", k, text) for k, text in enumerate(row))) for row in rows]
    return element("div", element("table", header, element("tbody", *body)), class_="scroll")

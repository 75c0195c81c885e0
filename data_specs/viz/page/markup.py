"""HTML text, and the escaping of all other text."""

from collections.abc import Iterable
from html import escape


class Markup(str):
    """HTML. Any other string is text, and is escaped when it is put into an element."""

    __slots__ = ()


def element(tag: str, *children: str, class_: str = "", **attributes: str | int | float) -> Markup:
    """Return `<tag ...>children</tag>`; children that are not Markup are escaped, and so are attributes.

    Underscores in names of attributes become hyphens (`aria_label`); an empty class is left out.
    """
    given = ({"class": class_} if class_ else {}) | attributes
    written = "".join(f' {name.replace("_", "-")}="{escape(str(value), quote=True)}"' for name, value in given.items())
    # promise: escaped
    inside = "".join(child if isinstance(child, Markup) else escape(child) for child in children)
    return Markup(f"<{tag}{written}/>" if tag in VOID else f"<{tag}{written}>{inside}</{tag}>")


VOID = ("img", "path")  # in SVG an element that is not closed would swallow those after it


def joined(parts: Iterable[Markup], separator: str = "") -> Markup:
    """Join pieces of HTML."""
    return Markup(separator.join(parts))

"""HTML text, and the escaping of all other text."""

from collections.abc import Iterable
from html import escape


class Markup(str):
    """A string of HTML. Any other string is text, and `element` escapes it."""

    __slots__ = ()


def element(tag: str, *children: str, class_: str = "", **attributes: str | int | float) -> Markup:
    """Return `<tag ...>children</tag>`; children that are not Markup are escaped, and so are values of attributes.

    Underscores in names of attributes become hyphens (`aria_label`); `class_` is the class, left out if empty. The tags
    img and path are closed at once, without their children.
    """
    given = ({"class": class_} if class_ else {}) | attributes
    written = "".join(f' {name.replace("_", "-")}="{escape(str(value), quote=True)}"' for name, value in given.items())
    # promise: escaped
    inside = "".join(child if isinstance(child, Markup) else escape(child) for child in children)
    return Markup(f"<{tag}{written}/>" if tag in VOID else f"<{tag}{written}>{inside}</{tag}>")


VOID = ("img", "path")  # in SVG an element that is not closed would swallow those after it


def joined(parts: Iterable[Markup], separator: str = "") -> Markup:
    """Return the pieces of HTML as one, with `separator`, which is not escaped, between them."""
    return Markup(separator.join(parts))

"""Anchors: comments `# promise: ID` that identify the code a promise depends on, and edits of the code below them.

An anchor names the first code line below it: a statement, or an element of an expression that starts on its line.
An operator changes the syntax tree of that statement and names no identifier of the project, so renames break nothing.
"""

import ast
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

PATTERN = re.compile(r"^\s*# promise: (\S+)$", re.MULTILINE)
FOLDERS = ("data_specs", "pipeline", "training", "pvt")
BODIES = ("body", "orelse", "finalbody", "handlers", "cases")


def find_anchors(root: Path) -> dict[str, list[Path]]:
    """Files of each anchor below `root`, relative to it."""
    found: dict[str, list[Path]] = {}
    for folder in FOLDERS:
        for path in sorted((root / folder).rglob("*.*")):
            if path.suffix in (".py", ".toml"):
                for name in PATTERN.findall(path.read_text(encoding="utf-8")):
                    found.setdefault(name, []).append(path.relative_to(root))
    return found


@dataclass
class Site:
    """The syntax below an anchor.

    Attributes:
        tree: the module.
        line: number of the first code line below the anchor.
    """

    tree: ast.Module
    line: int
    parents: dict[ast.AST, ast.AST] = field(init=False)

    def __post_init__(self) -> None:
        self.parents = {child: node for node in ast.walk(self.tree) for child in ast.iter_child_nodes(node)}

    @cached_property
    def roots(self) -> list[ast.AST]:
        """Outermost nodes that start on the line."""
        starts = [node for node in ast.walk(self.tree) if getattr(node, "lineno", None) == self.line]
        return [node for node in starts if self.parents[node] not in starts]

    def nodes(self) -> list[ast.AST]:
        """Nodes of the statement without its body, by position, outer ones first."""
        found = [node for root in self.roots for node in _header(root)]
        return sorted(found, key=lambda node: (*_start(node), *(-part for part in _end(node))))

    def replace(self, old: ast.AST, *new: ast.AST) -> None:
        """Put nodes in the place of `old`; several, or none, only where `old` is in a list."""
        parent = self.parents[old]
        for name, value in ast.iter_fields(parent):
            if value is old:
                setattr(parent, name, new[0])
                return
            if isinstance(value, list) and old in value:
                at = next(i for i, one in enumerate(value) if one is old)
                value[at : at + 1] = new
                return
        raise ValueError(f"line {self.line} has no place for an edit")


def _start(node: ast.AST) -> tuple[int, int]:
    return getattr(node, "lineno", 0), getattr(node, "col_offset", 0)


def _end(node: ast.AST) -> tuple[int, int]:
    return getattr(node, "end_lineno", 0), getattr(node, "end_col_offset", 0)


def _header(node: ast.AST) -> Iterator[ast.AST]:
    yield node
    for name, value in ast.iter_fields(node):
        if name in BODIES and isinstance(value, list):
            continue
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST):
                yield from _header(child)


Operator = Callable[[Site], None]
Edits = tuple[tuple[str, Any], ...]


def edited(source: str, edits: Sequence[tuple[str, Operator]]) -> str:
    """Return Python source with the code below each anchor changed by its operator.

    Raises:
        ValueError: an anchor, or the syntax that its operator changes, is missing, or an edit changes nothing.
    """
    tree = ast.parse(source)
    sites = [Site(tree, _line_below(source, anchor)) for anchor, _ in edits]
    for site, (anchor, operator) in zip(sites, edits, strict=True):
        before = ast.unparse(tree)
        operator(site)
        if ast.unparse(ast.fix_missing_locations(tree)) == before:
            raise ValueError(f"the edit below {anchor} changes nothing")
    return ast.unparse(tree) + "\n"


def _line_below(source: str, anchor: str) -> int:
    lines = source.splitlines()
    at = next(i for i, line in enumerate(lines) if (found := PATTERN.match(line)) and found[1] == anchor)
    return 1 + next(i for i in range(at, len(lines)) if lines[i].strip() and not lines[i].lstrip().startswith("#"))


def edited_toml(source: str, edits: Sequence[tuple[str, str]]) -> str:
    """Return a TOML text with the value on the line below each anchor changed."""
    for anchor, new in edits:
        after = re.sub(rf"(# promise: {re.escape(anchor)}\n\s*\w+ = )\S+", rf"\g<1>{new}", source)
        if after == source:
            raise ValueError(f"the edit below {anchor} changes nothing")
        source = after
    return source

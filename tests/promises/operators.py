"""Edits of the code below an anchor, by name. `n` selects the n-th match of the statement, in order of position.

Templates are Python expressions with placeholders: `{}` is the matched node, `{left}`, `{right}`, `{body}` its parts,
`{0}` its first argument, element or operand; parts chain, as in `{func.value}`.
"""

import ast
import re
from typing import Any

from tests.promises.anchors import Operator, Site

_BINARY = {"+": ast.Add, "-": ast.Sub, "*": ast.Mult, "/": ast.Div, "//": ast.FloorDiv, "%": ast.Mod, "&": ast.BitAnd}
_COMPARED = {"<": ast.Lt, "<=": ast.LtE, ">": ast.Gt, ">=": ast.GtE, "==": ast.Eq, "!=": ast.NotEq}
_KINDS = {
    "call": ast.Call,
    "f-string": ast.JoinedStr,
    "if-expression": ast.IfExp,
    "list": ast.List,
    "tuple": ast.Tuple,
    "set": ast.Set,
    "and": ast.And,
    "or": ast.Or,
}
_SEQUENCES = ("elts", "values", "args")
# How often the method has got here, from 0: what a process counts on its own.
CALLS = "self.__dict__.update(_calls=self.__dict__.get('_calls', -1) + 1) or self._calls"


def drop() -> Operator:
    """Remove the statement."""

    def edit(site: Site) -> None:
        (statement,) = (root for root in site.roots if isinstance(root, ast.stmt))
        site.replace(statement, ast.Pass())

    return edit


def swap_with_next() -> Operator:
    """Exchange the statement and the one after it."""

    def edit(site: Site) -> None:
        (statement,) = (root for root in site.roots if isinstance(root, ast.stmt))
        block = next(
            value
            for _, value in ast.iter_fields(site.parents[statement])
            if isinstance(value, list) and statement in value
        )
        at = block.index(statement)
        block[at], block[at + 1] = block[at + 1], block[at]

    return edit


def insert(source: str) -> Operator:
    """Put a statement in front."""

    def edit(site: Site) -> None:
        (statement,) = (root for root in site.roots if isinstance(root, ast.stmt))
        site.replace(statement, *ast.parse(source).body, statement)

    return edit


def condition(value: bool) -> Operator:
    """Fix the condition of an if statement."""

    def edit(site: Site) -> None:
        (statement,) = (root for root in site.roots if isinstance(root, ast.If))
        statement.test = ast.Constant(value)

    return edit


def constant(old: object, new: object, n: int = 0) -> Operator:
    """Change a literal."""

    def edit(site: Site) -> None:
        found = [
            node
            for node in site.nodes()
            if isinstance(node, ast.Constant) and type(node.value) is type(old) and node.value == old
        ]
        _nth(found, n, repr(old)).value = new

    return edit


def value(template: str) -> Operator:
    """Replace what is assigned, returned, passed as the keyword, or stored under the key."""

    def edit(site: Site) -> None:
        root = site.roots[0]
        if isinstance(parent := site.parents[root], ast.Dict) and root in parent.keys:
            old: ast.AST = parent.values[parent.keys.index(root)]  # type: ignore[arg-type]
        else:
            old = root.value  # type: ignore[attr-defined]
        site.replace(old, _filled(template, old))

    return edit


def iterate(template: str) -> Operator:
    """Let a loop or comprehension run over something else."""

    def edit(site: Site) -> None:
        loops = [node for node in site.nodes() if hasattr(node, "generators") or isinstance(node, ast.For)]
        loop = _nth(loops, 0, "loop")
        owner = loop if isinstance(loop, ast.For) else loop.generators[0]
        owner.iter = _filled(template, owner.iter)

    return edit


def unfiltered() -> Operator:
    """Remove the condition of a comprehension."""

    def edit(site: Site) -> None:
        loops = [node for node in site.nodes() if getattr(node, "generators", None)]
        _nth(loops, 0, "comprehension").generators[0].ifs.clear()

    return edit


def rewrite(kind: str, template: str, n: int = 0) -> Operator:
    """Replace an expression: kinds are operators (`+`, `<`, `and`), call, f-string, if-expression, list, tuple, set."""

    def edit(site: Site) -> None:
        node = _nth([node for node in site.nodes() if _is(node, kind)], n, kind)
        site.replace(node, _filled(template, node))

    return edit


def compare(old: str, new: str, n: int = 0) -> Operator:
    """Change a comparison, as in `compare("<", "<=")`."""
    return rewrite(old, f"{{left}} {new} {{right}}", n)


def keep_left(operator: str, n: int = 0) -> Operator:
    """Replace a binary operation by its left operand."""
    return rewrite(operator, "{left}", n)


def unwrap(n: int = 0) -> Operator:
    """Replace a call by its first argument."""
    return rewrite("call", "{0}", n)


def without(index: int, kind: str, n: int = 0) -> Operator:
    """Remove an argument of a call, an element of a tuple, list or set, an operand of `and`, or a part of an f-string."""

    def edit(site: Site) -> None:
        del _parts(_nth([node for node in site.nodes() if _is(node, kind)], n, kind))[index]

    return edit


def element(index: int, kind: str, template: str, n: int = 0) -> Operator:
    """Replace an argument of a call, or an element of a tuple, list or set."""

    def edit(site: Site) -> None:
        parts = _parts(_nth([node for node in site.nodes() if _is(node, kind)], n, kind))
        parts[index] = _filled(template, parts[index])

    return edit


def added(source: str, kind: str, n: int = 0) -> Operator:
    """Add an element to a tuple, list or set."""

    def edit(site: Site) -> None:
        _parts(_nth([node for node in site.nodes() if _is(node, kind)], n, kind)).append(_expression(source))

    return edit


def positive() -> Operator:
    """Remove every unary minus."""

    def edit(site: Site) -> None:
        for node in site.nodes():
            if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
                site.replace(node, node.operand)
                site.parents[node.operand] = site.parents[node]

    return edit


def _is(node: ast.AST, kind: str) -> bool:
    if kind in _BINARY:
        return isinstance(node, ast.BinOp) and isinstance(node.op, _BINARY[kind])
    if kind in _COMPARED:
        return isinstance(node, ast.Compare) and isinstance(node.ops[0], _COMPARED[kind])
    if kind in ("and", "or"):
        return isinstance(node, ast.BoolOp) and isinstance(node.op, _KINDS[kind])
    return isinstance(node, _KINDS[kind])


def _nth(found: list[Any], n: int, what: str) -> Any:
    if n >= len(found):
        raise ValueError(f"the statement has {len(found)} of {what}, no number {n}")
    return found[n]


def _parts(node: ast.AST) -> list[Any]:
    return next(getattr(node, name) for name in _SEQUENCES if hasattr(node, name))


def _part(node: Any, path: str) -> ast.expr:
    for name in filter(None, path.split(".")):
        if name.isdecimal():
            node = _parts(node)[int(name)]
        elif name == "right" and isinstance(node, ast.Compare):
            node = node.comparators[0]
        else:
            node = getattr(node, name)
    return node


def _expression(source: str) -> ast.expr:
    return ast.parse(source, mode="eval").body


def _filled(template: str, node: ast.AST) -> ast.expr:
    """The template's syntax tree with the parts of `node` in place of the placeholders."""
    return _expression(re.sub(r"\{([\w.]*)\}", lambda found: f"({ast.unparse(_part(node, found[1]))})", template))

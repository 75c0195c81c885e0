"""Import graph, cycles, sizes and class names of the project: `python -m tests.architecture [--graph]`.

With `--journeys` instead the modules that data passes from MIDI files to a loss and from a curve to a WAV file.
"""

import argparse
import ast
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

from tests import journeys

ROOT = Path(__file__).parents[1]
PACKAGES = ("data_specs", "pipeline", "training", "pvt", "bench")


def sources(root: Path = ROOT, packages: tuple[str, ...] = (*PACKAGES, "tests")) -> dict[str, Path]:
    """Files by dotted module name."""
    files = [path for package in packages for path in sorted((root / package).rglob("*.py"))]
    return {_module(path.relative_to(root)): path for path in files}


def _module(path: Path) -> str:
    return ".".join(path.with_suffix("").parts).removesuffix(".__init__")


def imports(tree: ast.AST, names: Mapping[str, object]) -> set[str]:
    """Modules among `names` that a file imports anywhere: at the top, in functions and under TYPE_CHECKING."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            inner = [f"{node.module}.{alias.name}" for alias in node.names]
            found |= {name for name in inner if name in names}
            if any(name not in names for name in inner):
                found.add(node.module)
    return found & set(names)


def import_graph(root: Path = ROOT) -> dict[str, set[str]]:
    """Imported modules of each module of the project; tests are importers only."""
    files = sources(root)
    return {name: imports(ast.parse(path.read_text("utf-8")), files) - {name} for name, path in files.items()}


def cycles(graph: Mapping[str, set[str]]) -> list[list[str]]:
    """Strongly connected components of more than one module (Tarjan 1972)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(node: str) -> None:
        index[node] = low[node] = len(index)
        stack.append(node)
        for target in sorted(graph[node]):
            if target not in index:
                visit(target)
                low[node] = min(low[node], low[target])
            elif target in stack:
                low[node] = min(low[node], index[target])
        if low[node] == index[node]:
            component = [stack.pop()]
            while component[-1] != node:
                component.append(stack.pop())
            if len(component) > 1:
                found.append(sorted(component))

    for node in sorted(graph):
        if node not in index:
            visit(node)
    return found


def syntax_nodes(root: Path = ROOT) -> dict[str, int]:
    """Number of nodes of the syntax trees of each package."""
    counts: Counter[str] = Counter()
    for name, path in sources(root).items():
        counts[name.partition(".")[0]] += sum(1 for _ in ast.walk(ast.parse(path.read_text("utf-8"))))
    return dict(counts)


def duplicate_classes(root: Path = ROOT) -> dict[str, list[str]]:
    """Class names that occur more than once outside tests, with their modules."""
    homes: dict[str, list[str]] = {}
    for name, path in sources(root, PACKAGES).items():
        for class_name in _classes(ast.parse(path.read_text("utf-8"))):
            homes.setdefault(class_name, []).append(name)
    return {name: modules for name, modules in homes.items() if len(modules) > 1}


def _classes(tree: ast.AST) -> Iterator[str]:
    return (node.name for node in ast.walk(tree) if isinstance(node, ast.ClassDef))


def main() -> None:
    """Print the report."""
    parser = argparse.ArgumentParser(prog="python -m tests.architecture", description=__doc__)
    parser.add_argument("--graph", action="store_true", help="also every import")
    parser.add_argument("--root", type=Path, default=ROOT, help="another checkout")
    parser.add_argument("--journeys", action="store_true", help="only the modules on the two journeys (minutes)")
    arguments = parser.parse_args()
    if arguments.journeys:
        for journey in journeys.report(arguments.root.resolve()):
            print(journey, flush=True)
        return
    graph = import_graph(arguments.root)
    if arguments.graph:
        for name in sorted(graph):
            if not name.startswith("tests"):
                print(name, "->", ", ".join(sorted(graph[name])) or "-")
    found = cycles(graph)
    print(f"{len(graph)} modules, {sum(map(len, graph.values()))} imports, {len(found)} cycles")
    for cycle in found:
        print("  cycle:", ", ".join(cycle))
    print("syntax nodes:", ", ".join(f"{name} {count}" for name, count in syntax_nodes(arguments.root).items()))
    duplicates = duplicate_classes(arguments.root)
    print("duplicate class names:", ", ".join(f"{n} ({', '.join(m)})" for n, m in duplicates.items()) or "none")


if __name__ == "__main__":
    main()

"""Architecture: direction of imports, cycles, names of classes, length of files."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from tests.architecture import cycles, duplicate_classes, import_graph

ROOT = Path(__file__).parent.parent
PACKAGES = ("data_specs", "pipeline", "training")
FORBIDDEN = {
    "data_specs": {"pipeline", "training", "dask", "distributed", "fluidsynth", "pretty_midi", "symusic", "mido"},
    "pipeline": {"training", "tensorflow"},
    "training": {"pipeline", "tensorflow", "dask", "distributed", "fluidsynth", "pretty_midi", "symusic", "mido"},
}
SOURCES = [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]
OTHERS = [path for folder in ("pvt", "bench", "tests") for path in sorted((ROOT / folder).rglob("*.py"))]


def imported(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module.partition(".")[0])
    return found


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_go_one_way(path):
    package = path.relative_to(ROOT).parts[0]
    allowed = {"tensorflow"} if path.name == "tf_data.py" else set()
    assert not imported(path) & (FORBIDDEN[package] - allowed)


@pytest.mark.parametrize("path", SOURCES + OTHERS, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_file_stays_under_400_lines(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 400


def test_no_modules_import_each_other():
    assert cycles(import_graph()) == []


def test_no_class_name_occurs_twice():
    assert duplicate_classes() == {}


def test_nothing_imports_pvt():
    others = {name: found for name, found in import_graph().items() if name.partition(".")[0] not in ("pvt", "tests")}
    assert not [name for name, found in others.items() if any(one.partition(".")[0] == "pvt" for one in found)]


@pytest.mark.parametrize("package", ["pipeline", "training"])
def test_help_needs_no_heavy_import(package):
    heavy = "torch", "tensorflow", "dask", "distributed", "librosa", "matplotlib", "symusic", "pyarrow", "scipy"
    code = (
        f"import sys, runpy; sys.argv = ['x', '--help']\n"
        f"try: runpy.run_module({package!r}, run_name='__main__')\n"
        f"except SystemExit: pass\n"
        f"print([name for name in {heavy!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.splitlines()[-1] == "[]"

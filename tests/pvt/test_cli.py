"""Console script and public names of the package pvt."""

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import pvt
from pvt.cli import EXTRAS, VERBS, main

ROOT = Path(__file__).parents[2]
# Targets of the Makefile that serve development of the project.
DEVELOPMENT = {"help", "setup", "docs", "lint", "types", "test", "test-slow", "bench", "bench-full", "check"}


def make_targets() -> set[str]:
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    return set(re.findall(r"^([a-z-]+):[^\n#]*##", text, re.MULTILINE)) - DEVELOPMENT


def test_every_user_verb_is_in_make_and_in_pvt():
    assert make_targets() == set(VERBS)


def test_make_runs_the_verb_of_the_same_name():
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    for verb in VERBS:
        recipe = re.search(rf"^{verb}:.*\n((?:\t.*\n)+)", text, re.MULTILINE)
        assert recipe, verb
        assert re.search(rf"-m (pvt |pipeline\.tools\.){verb}\b", recipe[1]), verb


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_options_of_its_own(verb, capsys):
    with pytest.raises(SystemExit) as end:
        main([verb, "--help"])
    assert end.value.code == 0
    assert capsys.readouterr().out.startswith(f"usage: pvt {verb} ")


def test_help_imports_no_package_of_another_project():
    code = (
        "import sys; from pvt.cli import main; main(['--help']); "
        "print(sorted({name.partition('.')[0] for name in sys.modules} & {'torch', 'numpy', 'pydantic', 'dask'}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.startswith("usage: pvt VERB")
    assert done.stdout.splitlines()[-1] == "[]"


def test_an_unknown_verb_is_named(capsys):
    assert main(["trian"]) == 2
    assert capsys.readouterr().err.startswith("error: 'trian' is not a verb of pvt; choose from dataset, ")
    assert main([]) == 2


@pytest.mark.parametrize(
    ("arguments", "package", "extras"),
    [
        (["report", "--data", "/nowhere"], "pyarrow", "pipeline"),
        (["sample", "--controls", "swell"], "scipy", "training"),
        (["studio"], "uvicorn", "training,studio"),
    ],
)
def test_a_package_that_is_not_installed_names_its_extra(arguments, package, extras, tmp_path):
    code = f"import sys; sys.modules[{package!r}] = None; from pvt.cli import main; sys.exit(main({arguments!r}))"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, env=environment, timeout=120
    )
    verb, remedy = arguments[0], f"pip install 'pvt-audio[{extras}]'"
    assert done.stderr == f"error: pvt {verb} needs the package {package}; type: {remedy}\n"
    assert done.returncode == 2


def test_the_console_script_and_the_extras_are_declared():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["scripts"] == {"pvt": "pvt.cli:main"}
    assert {name for extras in EXTRAS.values() for name in extras.split(",")} <= set(project["optional-dependencies"])
    assert set(EXTRAS) == {package for package, _ in VERBS.values()}


def test_every_public_name_is_importable():
    for name in pvt.__all__:
        if name != "tf_dataset":  # imports TensorFlow
            assert getattr(pvt, name).__name__ == name
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        pvt.nothing  # noqa: B018

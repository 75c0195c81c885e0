"""The kind of machine: what it names, and which recorded forms mean the same arithmetic."""

import pytest

from data_specs import __version__
from data_specs.errors import UserError
from pipeline.build import machine
from pipeline.build.machine import ARITHMETIC_VERSION, current_kind, machine_kind
from pipeline.build.shards import shard_tasks
from tests.pipeline.build.test_folder import folder, make_shard  # noqa: F401

PACKAGES = "x86_64 AuthenticAMD family 25 AVX512, torch 2.13.0+cpu, numpy 2.4.6, fluidsynth 2.3.1"


def test_a_kind_depends_on_the_arithmetic_version_and_not_on_the_release(monkeypatch):
    kind = machine_kind()
    assert kind.endswith(f", arithmetic {ARITHMETIC_VERSION}")
    assert __version__ not in kind.rpartition("arithmetic")[2]
    monkeypatch.setattr(machine, "__version__", "9.9.9")
    assert machine_kind() == kind


def test_shards_of_the_release_before_are_resumed_where_all_else_is_equal(folder):  # noqa: F811
    """Release 0.2.0 recorded itself in the kind and computed like arithmetic version 2."""
    tasks = shard_tasks("disc", "train", 20, 10)
    make_shard(folder, tasks[0], machine=f"{PACKAGES}, pvt-audio 0.2.0")
    assert [task.number for task in folder.missing(tasks, f"{PACKAGES}, arithmetic 2", False)] == [1]
    for other in (f"{PACKAGES}, arithmetic 3", f"{PACKAGES.replace('2.4.6', '2.5.0')}, arithmetic 2"):
        with pytest.raises(UserError, match="ACCEPT_DEVICE=1"):
            folder.missing(tasks, other, False)


def test_only_the_release_is_rewritten():
    assert current_kind(f"{PACKAGES}, pvt-audio 0.1.0") == f"{PACKAGES}, arithmetic 1"
    for kind in (f"{PACKAGES}, arithmetic 2", f"{PACKAGES}, pvt-audio 0.7.0", "here"):
        assert current_kind(kind) == kind

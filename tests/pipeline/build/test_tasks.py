"""Settings of a worker before it computes stored arrays."""

import threading
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from data_specs.spec import load_spec
from pipeline.build.tasks import ShardWorker


@pytest.fixture
def other_settings():
    """Threads and TF32 as a worker must not have them; afterwards as before."""
    threads = torch.get_num_threads()
    switches = [(torch.backends.cuda.matmul, "allow_tf32"), (torch.backends.cudnn, "allow_tf32")]
    before = [getattr(place, name) for place, name in switches]
    torch.set_num_threads(2)
    for place, name in switches:
        setattr(place, name, True)
    yield
    torch.set_num_threads(threads)
    for (place, name), value in zip(switches, before, strict=True):
        setattr(place, name, value)


def test_a_worker_computes_on_one_thread_in_full_precision(other_settings):
    """More threads split sums elsewhere, and TF32 drops digits: other bits than on the worker beside it."""
    worker = SimpleNamespace(state=SimpleNamespace(total_resources={}))
    ShardWorker(load_spec(), ("disc",), Path("plan"), Path("font"), gpu=True).setup(worker)
    assert torch.get_num_threads() == 1
    assert not torch.backends.cuda.matmul.allow_tf32
    assert not torch.backends.cudnn.allow_tf32


class SlowBuilder:
    """A builder whose task waits for `go`; `events` holds what happened, in order."""

    def __init__(self) -> None:
        self.started, self.go, self.events = threading.Event(), threading.Event(), []
        self.renderer = SimpleNamespace(close=lambda: self.events.append("closed"))

    def build(self, tasks, out):
        self.started.set()
        assert self.go.wait(10)
        self.events.append("built")
        return []


@pytest.fixture
def plugin():
    """A plugin that has been set up and has one builder."""
    plugin = ShardWorker(load_spec(), ("disc",), Path("plan"), Path("font"), gpu=True)
    plugin.setup(SimpleNamespace(state=SimpleNamespace(total_resources={})))
    plugin.builders[False] = SlowBuilder()
    return plugin


def test_a_renderer_in_use_is_closed_after_the_task_of_a_killed_client(plugin):
    """A client that resumes the build replaces the plugin; a SoundFont freed under a task crashes the worker."""
    builder = plugin.builders[False]
    task = threading.Thread(target=plugin.build, args=((), Path(), False))
    task.start()
    assert builder.started.wait(10)
    plugin.teardown(None)
    assert builder.events == []
    builder.go.set()
    task.join(10)
    assert builder.events == ["built", "closed"]
    assert plugin.builders == {}


def test_an_unused_renderer_is_closed_when_the_plugin_is_replaced(plugin):
    builder = plugin.builders[False]
    plugin.teardown(None)
    plugin.teardown(None)
    assert builder.events == ["closed"]

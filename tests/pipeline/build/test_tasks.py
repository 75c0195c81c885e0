"""Settings of a worker before it computes stored arrays."""

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

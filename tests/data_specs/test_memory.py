"""Memory: freed blocks are used again without page faults."""

import subprocess
import sys

import pytest

COUNT_FAULTS = """
import resource, sys
import numpy as np
from data_specs.memory import keep_freed_memory
kept = sys.argv[1] == "keep" and keep_freed_memory()
np.ones(12_000_000)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(4):
    np.ones(12_000_000)
print(int(kept), resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def page_faults(mode: str) -> tuple[bool, int]:
    """Whether memory is kept, and the page faults of four arrays of 96 MB, each made after the last is freed."""
    done = subprocess.run(
        [sys.executable, "-c", COUNT_FAULTS, mode], capture_output=True, text=True, check=True, timeout=60
    )
    kept, faults = done.stdout.split()
    return kept == "1", int(faults)


def test_freed_blocks_are_used_again() -> None:
    kept, faults = page_faults("keep")
    if not kept:
        pytest.skip("the C library does not keep blocks of 1 GiB")
    assert faults * 20 < page_faults("default")[1]

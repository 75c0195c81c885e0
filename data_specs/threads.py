"""Number of threads of torch on a CPU, chosen by measurement.

Threads of OpenMP spin while they wait by default, which takes processor time from other processes. `wait_passively`
must run before torch is imported. Results are bit-identical only for equal numbers of threads; the workers of a dataset
build, `codec` and `classifier` therefore always use one.
"""

import os
import time
from collections.abc import Callable

LEAST_GAIN = 1.15  # of more threads over fewer, below which the smaller number is kept


def wait_passively() -> None:
    """Set OMP_WAIT_POLICY to passive (waiting threads sleep) unless it is set; torch reads it when it is imported."""
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")


def set_threads(threads: int | None) -> int:
    """Set the number of CPU threads of torch and return it.

    It is `threads`; for None it is left to OMP_NUM_THREADS; without this variable it is the fastest of those measured.
    """
    import torch

    if threads is None and "OMP_NUM_THREADS" not in os.environ:
        threads = fastest_threads(_convolution())
    if threads is not None:
        torch.set_num_threads(threads)
    return torch.get_num_threads()


def fastest_threads(work: Callable[[], object], available: int | None = None) -> int:
    """Return the fastest number of threads for `work`, measured; torch is left with the last number tried.

    Tried are 1, 2, 4, ... and `available` (None: the cores of this process), as long as each makes the median of three
    calls at least 1.15 times as fast as the number before it.
    """
    import torch

    available = available or len(os.sched_getaffinity(0))
    best, least = 1, float("inf")
    for threads in sorted({1 << power for power in range(available.bit_length())} | {available}):
        if threads > available:
            break
        torch.set_num_threads(threads)
        work()
        seconds = []
        for _ in range(3):
            start = time.perf_counter()
            work()
            seconds.append(time.perf_counter() - start)
        if least < LEAST_GAIN * sorted(seconds)[1]:
            break
        best, least = threads, sorted(seconds)[1]
    return best


def _convolution() -> Callable[[], object]:
    """Return a function that computes a convolution of the size of those in networks of `tiny`, on the CPU."""
    import torch

    x, weight = torch.randn(2, 128, 600), torch.randn(128, 128, 3)
    return lambda: torch.nn.functional.conv1d(x, weight, padding=1)

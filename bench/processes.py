"""Processor time and memory of this process and its descendants."""

import threading
from collections.abc import Callable
from typing import Self

import psutil

SAMPLE_SECONDS = 0.5


def tree_cpu_seconds() -> float:
    """Return processor seconds (user and system) of this process and its running descendants together."""
    total = 0.0
    for process in (psutil.Process(), *psutil.Process().children(recursive=True)):
        try:
            times = process.cpu_times()
        except psutil.NoSuchProcess:
            continue
        total += times.user + times.system
    return total


def resident_mb(process: int) -> float:
    """Return the resident memory of the process with id `process` in MiB, rounded to an integer; 0 if it has ended."""
    try:
        return round(psutil.Process(process).memory_info().rss / 2**20)
    except psutil.NoSuchProcess:
        return 0.0


def family(process: int) -> dict[str, list[int]]:
    """Return process ids by role: `process` as `client`, its descendants as `worker`."""
    try:
        children = [child.pid for child in psutil.Process(process).children(recursive=True)]
    except psutil.NoSuchProcess:
        children = []
    return {"client": [process], "worker": children}


class Memory(threading.Thread):
    """Thread that samples the resident memory of processes every SAMPLE_SECONDS during the block.

    Args:
        roles: function that returns process ids by role, called for each sample.

    Attributes:
        series: memory in MiB of the largest process of each role, at each sample.
    """

    def __init__(self, roles: Callable[[], dict[str, list[int]]]) -> None:
        super().__init__(daemon=True)
        self.roles = roles
        self.series: dict[str, list[float]] = {}
        self.stopped = threading.Event()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.stopped.set()
        self.join()

    def run(self) -> None:
        """Sample until the end of the block; this method is called by the thread."""
        while not self.stopped.wait(SAMPLE_SECONDS):
            for role, processes in self.roles().items():
                sizes = [resident_mb(process) for process in processes]
                self.series.setdefault(role, []).append(max(sizes, default=0.0))

    def summary(self) -> dict[str, dict[str, float]]:
        """Return MiB by role: of the largest process in the first half of the samples (`first_half`) and in `all`."""
        return {
            role: {"first_half": max(values[: len(values) // 2 + 1]), "all": max(values)}
            for role, values in self.series.items()
        }

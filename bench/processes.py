"""Processor time and memory of this process and its descendants."""

import threading
from collections.abc import Callable, Iterable
from typing import Self

import psutil

SAMPLE_SECONDS = 0.5


def tree_cpu_seconds() -> float:
    """Processor seconds, of user and system, of this process and its living descendants."""
    total = 0.0
    for process in (psutil.Process(), *psutil.Process().children(recursive=True)):
        try:
            times = process.cpu_times()
        except psutil.NoSuchProcess:
            continue
        total += times.user + times.system
    return total


def resident_mb(process: int) -> float:
    """Resident memory of a process in MB; 0 when it is gone."""
    try:
        return round(psutil.Process(process).memory_info().rss / 2**20)
    except psutil.NoSuchProcess:
        return 0.0


def family(process: int) -> dict[str, list[int]]:
    """A process as `client`, its descendants as `worker`."""
    try:
        children = [child.pid for child in psutil.Process(process).children(recursive=True)]
    except psutil.NoSuchProcess:
        children = []
    return {"client": [process], "worker": children}


class Memory(threading.Thread):
    """Samples the resident memory of processes by role while the block lasts."""

    def __init__(self, roles: Callable[[], dict[str, list[int]]]) -> None:
        """`roles`: () -> {role: process ids}, asked again for each sample."""
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
        """Until the block ends."""
        while not self.stopped.wait(SAMPLE_SECONDS):
            for role, processes in self.roles().items():
                sizes = [resident_mb(process) for process in processes]
                self.series.setdefault(role, []).append(max(sizes, default=0.0))

    def summary(self) -> dict[str, dict[str, float]]:
        """MB by role: the largest single process in the first half and in all of the run."""
        return {
            role: {"first_half": largest(values[: len(values) // 2 + 1]), "all": largest(values)}
            for role, values in self.series.items()
        }


def largest(values: Iterable[float]) -> float:
    """The largest, 0 of none."""
    return max(values, default=0.0)

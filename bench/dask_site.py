"""A Dask scheduler and workers as processes on this machine, started by the command line of Dask."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Self

from pipeline.cluster.workers import ENVIRONMENT

ROOT = Path(__file__).parents[1]
PATIENCE_SECONDS = 120


class DaskSite:
    """A scheduler and `workers` workers of one thread, which are killed at the end of the block.

    Args:
        folder: folder of scheduler.json, the file with the address of the scheduler, and of the log of each process.
        workers: number of workers.
        options: further options of the command lines of scheduler and workers.

    Attributes:
        address: address of the scheduler.
    """

    def __init__(self, folder: Path, workers: int = 2, options: tuple[str, ...] = ()) -> None:
        self.file = folder / "scheduler.json"
        self.workers: list[subprocess.Popen[bytes]] = []
        self._options = options
        self.scheduler = self.start_scheduler(0)
        for _ in range(workers):
            self.start_worker()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()

    def start_scheduler(self, port: int) -> "subprocess.Popen[bytes]":
        """Start the scheduler at `port` (0: any free port), wait until it has an address, and return its process.

        An earlier scheduler is not stopped.

        Raises:
            RuntimeError: it ended, or wrote no address within PATIENCE_SECONDS.
        """
        self.file.unlink(missing_ok=True)
        self.scheduler = self._start("scheduler", "--port", str(port), "--no-dashboard")
        self.address = self._announced()
        return self.scheduler

    def _announced(self) -> str:
        """Wait for the file in which the scheduler writes its address, and return the address.

        Raises:
            RuntimeError: the scheduler ended, or wrote none within PATIENCE_SECONDS; all processes are then killed.
        """
        deadline = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < deadline and self.scheduler.poll() is None:
            try:
                return str(json.loads(self.file.read_bytes())["address"])
            except (FileNotFoundError, json.JSONDecodeError):
                time.sleep(0.05)
        self.stop()
        raise RuntimeError(f"the scheduler wrote no address within {PATIENCE_SECONDS} s, or it failed")

    def start_worker(self, *options: str) -> "subprocess.Popen[bytes]":
        """Start another worker of one thread, with further `options` of its command line; return its process."""
        worker = self._start("worker", "--nthreads", "1", "--no-dashboard", "--no-nanny", *options)
        self.workers.append(worker)
        return worker

    def kill_worker(self, number: int) -> None:
        """Kill worker `number` of the list `workers` by SIGKILL, and remove it from the list."""
        worker = self.workers.pop(number)
        worker.kill()
        worker.wait()

    def stop(self) -> None:
        """Kill the scheduler and all workers by SIGKILL, and wait until they have ended."""
        for process in (*self.workers, self.scheduler):
            process.kill()
            process.wait()

    def _start(self, kind: str, *options: str) -> "subprocess.Popen[bytes]":
        environment = {**os.environ, **ENVIRONMENT, "PYTHONPATH": str(ROOT)}
        place = ["--host", "127.0.0.1", "--scheduler-file", str(self.file)]
        command = [sys.executable, "-m", "dask", kind, *place, *self._options, *options]
        with open(self.file.with_name(f"{kind}-{len(self.workers)}-{time.monotonic_ns()}.log"), "wb") as log:
            return subprocess.Popen(command, env=environment, stdout=log, stderr=log)

"""Where tasks run: local worker processes by default, or a Dask scheduler that stands somewhere else."""

import os
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from functools import cached_property
from itertools import islice
from typing import Any

from data_specs.errors import UserError

# A task whose worker dies this often is held to be the cause, and ends the run by name.
ALLOWED_DEATHS = 3
LOOPBACK = "127.0.0.1"  # nobody else on a shared network can reach the local workers
CONNECT_SECONDS = 20
WORKER_SECONDS = 60  # how long a scheduler may be without workers before that is an error
IN_FLIGHT = 3  # tasks for each worker: one at work, and enough waiting that it never idles


class Cluster:
    """Workers for a run, started when they are first needed and ended with the block.

    They belong to `scheduler` when an address is given; else they are `workers` local processes of one thread each.
    """

    def __init__(self, scheduler: str | None = None, workers: int | None = None) -> None:
        self.scheduler = scheduler
        self.workers = workers or cores()
        self._stack = ExitStack()

    def __enter__(self) -> "Cluster":
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    @cached_property
    def client(self) -> Any:
        """A distributed.Client of the workers.

        Raises:
            UserError: no scheduler answers at the address.
        """
        return self._remote(self.scheduler) if self.scheduler is not None else self._local()

    def _remote(self, address: str) -> Any:
        from distributed import Client

        try:
            return self._stack.enter_context(Client(address, timeout=CONNECT_SECONDS, set_as_default=False))
        except (OSError, ValueError) as error:
            raise UserError(
                f"no Dask scheduler answers at SCHEDULER={address} ({error}); start one with `dask scheduler`, "
                f"give its address as tcp://host:port, or leave SCHEDULER out for local processes"
            ) from None

    def _local(self) -> Any:
        import dask
        from distributed import Client, LocalCluster

        settings = {
            "distributed.scheduler.allowed-failures": ALLOWED_DEATHS,
            "distributed.admin.system-monitor.gil.enabled": False,
        }
        self._stack.enter_context(dask.config.set(settings))
        cluster = LocalCluster(
            n_workers=self.workers,
            threads_per_worker=1,
            processes=True,
            host=LOOPBACK,
            dashboard_address=f"{LOOPBACK}:0",
            worker_dashboard_address=f"{LOOPBACK}:0",
            silence_logs=50,
        )
        return self._stack.enter_context(Client(self._stack.enter_context(cluster), set_as_default=False))

    def run(self, function: Callable[..., Any], tasks: Iterable[tuple], what: str) -> Iterator[Any]:
        """Results of `function(*task)` on the workers, as they come, each freed on arrival.

        Tasks are drawn only as workers need them, so that an iterator that carries content stays a stream. Results
        are small receipts: arrays go to files, never through the scheduler.

        Raises:
            UserError: a task killed its worker again and again.
        """
        from distributed import as_completed
        from distributed.scheduler import KilledWorker

        client, waiting = self.client, iter(tasks)
        completed = as_completed(loop=client.loop)

        def submit() -> None:
            room = IN_FLIGHT * max(1, self._count()) - completed.count()
            for task in islice(waiting, max(1, room)):
                completed.add(client.submit(function, *task, pure=False))

        submit()
        try:
            for future in completed:
                try:
                    yield future.result()
                except KilledWorker as error:
                    raise UserError(
                        f"a worker died {ALLOWED_DEATHS + 1} times on the same {what} ({error.task}), perhaps out of "
                        f"memory; what is finished stands, the same command continues; fewer WORKERS need less memory"
                    ) from None
                future.release()
                submit()
        finally:
            client.cancel(list(completed.futures))

    def everywhere(self, function: Callable[[], Any]) -> list[Any]:
        """The function's results on all workers that live long enough to answer.

        Raises:
            UserError: there are no workers.
        """
        for _ in range(WORKER_SECONDS):
            results = self.client.run(function, on_error="ignore")
            if results:
                return list(results.values())
            time.sleep(1)
        raise UserError("the Dask scheduler has no workers; start some with `dask worker`, then repeat")

    def _count(self) -> int:
        return len(self.client.scheduler_info(n_workers=-1)["workers"])


def cores() -> int:
    """Processors this process may use."""
    return len(os.sched_getaffinity(0))

"""Where tasks run: local worker processes by default, or a Dask scheduler that stands somewhere else."""

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from typing import Any

from data_specs.errors import UserError

# A task whose worker dies this often is held to be the cause, and ends the run by name.
ALLOWED_DEATHS = 3
CONNECT_SECONDS = 20
IN_FLIGHT = 3  # tasks for each worker: one at work, and enough waiting that it never idles


@contextmanager
def client(scheduler: str | None, workers: int | None) -> Iterator[Any]:
    """A distributed.Client for the block: of `scheduler`, else of `workers` local processes of one thread each.

    Raises:
        UserError: no scheduler answers at that address, or it has no workers.
    """
    import dask
    from distributed import Client, LocalCluster

    if scheduler is not None:
        try:
            remote = Client(scheduler, timeout=CONNECT_SECONDS, set_as_default=False)
        except (OSError, ValueError) as error:
            raise UserError(
                f"no Dask scheduler answers at SCHEDULER={scheduler} ({error}); start one with `dask scheduler`, "
                f"give its address as tcp://host:port, or leave SCHEDULER out for local processes"
            ) from None
        with remote:
            yield remote
        return
    settings = {
        "distributed.scheduler.allowed-failures": ALLOWED_DEATHS,
        "distributed.worker.daemon": False,  # a worker has a child of its own, which reads MIDI
        "distributed.admin.system-monitor.gil.enabled": False,
    }
    with (
        dask.config.set(settings),
        LocalCluster(
            n_workers=workers or cores(),
            threads_per_worker=1,
            processes=True,
            host="127.0.0.1",  # nobody else on a shared machine can reach it
            dashboard_address=None,
            silence_logs=50,
        ) as cluster,
        Client(cluster, set_as_default=False) as local,
    ):
        yield local


def cores() -> int:
    """Processors this process may use."""
    return len(os.sched_getaffinity(0))


def run_tasks(client: Any, function: Callable[..., Any], tasks: Iterable[tuple], what: str) -> Iterator[Any]:
    """Results of `function(*task)` on the cluster, as they come, each freed on arrival.

    Tasks are drawn only as workers need them, so that an iterator that carries content stays a stream. Results are
    small receipts: arrays go to files, never through the scheduler.

    Raises:
        UserError: a task killed its worker again and again.
    """
    from distributed import as_completed
    from distributed.scheduler import KilledWorker

    waiting = iter(tasks)
    completed = as_completed(loop=client.loop)

    def submit() -> None:
        workers = client.scheduler_info(n_workers=-1)["workers"]
        for task in islice(waiting, max(1, IN_FLIGHT * len(workers) - completed.count())):
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

"""Tasks on Dask workers: submitted as needed, retried where a worker is lost, stopped with one clear error."""

import queue
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import islice
from typing import Any

from distributed import Status, WorkerPlugin
from distributed.scheduler import KilledWorker

from data_specs.errors import UserError
from pipeline.cluster.workers import ALLOWED_DEATHS, Workers

IN_FLIGHT = 3  # tasks for each worker: one that runs, and enough in its queue that it never idles
POLL_SECONDS = 1.0  # between looks at scheduler and workers while no task completes
GPU = {"GPU": 1.0}  # resource that a worker with a GPU declares: dask worker --resources GPU=1
RESUME = "finished work is kept; run the same command again to resume"

Task = tuple[Any, ...]


class MemoryPolicy(WorkerPlugin):
    """Keep workers running whatever memory they use.

    Dask pauses a worker at 80 % of its limit until memory is freed, but the SoundFont and the codec stay loaded: the
    run would hang. A worker that exceeds its limit is killed instead, by its nanny or the system, and reported.
    """

    def setup(self, worker: Any) -> None:
        """Switch pausing and spilling off; Dask calls this in the worker process."""
        memory = worker.memory_manager
        memory.memory_target_fraction = memory.memory_spill_fraction = memory.memory_pause_fraction = False
        if worker.status == Status.paused:
            worker.status = Status.running


class Cluster:
    """Workers for a run: a context manager that starts them when they are first needed."""

    def __init__(self, workers: Workers) -> None:
        self.workers = workers
        self._stack = ExitStack()
        self._clients: dict[bool, Any] = {}

    def __enter__(self) -> "Cluster":
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def client(self, gpu: bool = False) -> Any:
        """Return a distributed.Client of the workers; with `gpu`, of the separate GPU cluster where there is one.

        Raises:
            UserError: no scheduler answers.
        """
        key = gpu and self.workers.has_separate_gpu_cluster()
        if key not in self._clients:
            self._clients[key] = self.workers.start(self._stack, key)
            self._register(self._clients[key], MemoryPolicy(), "pvt-memory")
        return self._clients[key]

    def has_gpu(self) -> bool:
        """Return whether a worker declares the resource GPU, or will."""
        return self.workers.has_separate_gpu_cluster() or bool(self._addresses(gpu=True))

    def size(self) -> int:
        """Return the number of workers, at least 1; the expected number while none have started."""
        expected = self.workers.expected()
        return max(1, len(self._addresses(gpu=False)) if expected is None else expected)

    def register(self, plugin: Any, name: str, gpu: bool = False) -> None:
        """Register a WorkerPlugin with all present and future workers.

        Raises:
            UserError: the scheduler is lost, workers die during the set-up, or the plugin raised UserError.
        """
        self._register(self.client(gpu), plugin, name)

    def _register(self, client: Any, plugin: Any, name: str) -> None:
        with self._connection():
            for _ in range(ALLOWED_DEATHS + 1):
                try:
                    client.register_plugin(plugin, name=name)
                    return
                except OSError:  # a worker died during the set-up
                    if client.status != "running":
                        raise
                    time.sleep(POLL_SECONDS)
            raise UserError(f"workers die while they start, perhaps out of memory ({self.workers.memory_hint()})")

    def run(
        self,
        function: Callable[..., Any],
        tasks: Iterable[Task],
        what: str,
        *,
        gpu: bool = False,
        instead: Callable[[Task], Iterable[Task]] = lambda task: (),
    ) -> Iterator[Any]:
        """Yield the results of `function(*task)` on the workers as they complete; each is freed on arrival.

        Tasks are drawn only as workers need them, so an iterator that carries content remains a stream. Results are
        small receipts: arrays go to files, never through the scheduler.

        A task whose worker died repeatedly is retried alone after all others, so tasks that shared its worker are not
        blamed. If its worker dies again, the tasks of `instead(task)` replace it.

        Args:
            function: a function at the top of a module.
            tasks: arguments of each call.
            what: name of a task, for messages.
            gpu: use only workers that declare the resource GPU.
            instead: replacements of a task that kills its workers; none to stop the run.

        Raises:
            UserError: a task without replacement kills its workers, the scheduler is lost, or there are no workers
                for longer than `workers.patience_s`.
        """
        with self._connection(), _InFlight(self, function, gpu) as in_flight:
            waiting = iter(tasks)
            retry_queue: deque[Task] = deque()
            while True:
                room = IN_FLIGHT * max(1, len(self._addresses(gpu))) - len(in_flight)
                in_flight.submit(islice(waiting, max(room, 0 if in_flight else 1)))
                if not in_flight:
                    break
                task, result = in_flight.next_completed()
                if isinstance(result, KilledWorker):
                    retry_queue.append(task)
                else:
                    yield result
            while retry_queue:
                in_flight.submit([retry_queue.popleft()])
                task, result = in_flight.next_completed()
                if not isinstance(result, KilledWorker):
                    yield result
                elif replaced := tuple(instead(task)):
                    retry_queue.extendleft(reversed(replaced))
                else:
                    raise UserError(
                        f"every worker died on one {what} ({_task_name(task)}), perhaps out of memory "
                        f"({self.workers.memory_hint()}); {RESUME}"
                    )

    def run_on_all(self, function: Callable[..., Any], *arguments: Any, gpu: bool = False) -> list[Any]:
        """Return the function's results on all workers that live long enough to answer, at least one.

        Raises:
            UserError: there are no workers.
        """
        with self._connection():
            seconds = 0.0
            while True:
                if addresses := self._addresses(gpu):
                    results = self.client(gpu).run(function, *arguments, workers=addresses, on_error="ignore")
                    if results:
                        return list(results.values())
                seconds = self.check_workers(seconds, gpu)
                time.sleep(POLL_SECONDS)

    def check_workers(self, seconds_without: float, gpu: bool) -> float:
        """Restart lost workers; return for how many seconds there have been none, 0 when there are some.

        Raises:
            UserError: there have been none for too long.
        """
        self.workers.restart_missing(self.client(gpu))
        if self._addresses(gpu):
            return 0.0
        if seconds_without > self.workers.patience_s:
            kind = "workers that declare the resource GPU" if gpu else "workers"
            raise UserError(
                f"the Dask scheduler has had no {kind} for {self.workers.patience_s:.0f} s; start some with "
                f"`dask worker`, or give them more memory ({self.workers.memory_hint()}); {RESUME}"
            )
        return seconds_without + POLL_SECONDS

    def _addresses(self, gpu: bool) -> list[str]:
        """Return the addresses of the present workers; with `gpu`, of those that declare the resource."""
        known = self.client(gpu).scheduler_info(n_workers=-1)["workers"]
        return [address for address, worker in known.items() if not gpu or "GPU" in worker.get("resources", {})]

    @contextmanager
    def _connection(self) -> Iterator[None]:
        """Turn all errors by which Dask reports a lost scheduler into one UserError."""
        from concurrent.futures import CancelledError

        from distributed.client import ClosedClientError
        from distributed.comm import CommClosedError

        try:
            yield
        except (CancelledError, ClosedClientError, CommClosedError, KeyError, RuntimeError, OSError) as error:
            by_dask = isinstance(error, CancelledError | ClosedClientError | CommClosedError)
            if by_dask or any(client.status != "running" for client in self._clients.values()):
                raise UserError(f"{self.workers.lost}; start it and its workers again; {RESUME}") from error
            raise


class _InFlight:
    """Submitted tasks: any number at a time, completed one by one."""

    def __init__(self, cluster: Cluster, function: Callable[..., Any], gpu: bool) -> None:
        self._cluster = cluster
        self._client = cluster.client(gpu)
        self._function = function
        self._gpu = gpu
        self._completed: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._tasks: dict[str, tuple[Any, Task]] = {}

    def __enter__(self) -> "_InFlight":
        return self

    def __exit__(self, *error: object) -> None:
        if self._client.status == "running":
            self._client.cancel([future for future, _ in self._tasks.values()])

    def __len__(self) -> int:
        return len(self._tasks)

    def submit(self, tasks: Iterable[Task]) -> None:
        """Submit tasks to the scheduler."""
        for task in tasks:
            future = self._client.submit(self._function, *task, pure=False, resources=GPU if self._gpu else None)
            self._tasks[future.key] = future, task
            future.add_done_callback(self._completed.put)

    def next_completed(self) -> tuple[Task, Any]:
        """Wait for the next task; return it with its result, or with KilledWorker if its worker died repeatedly."""
        future, seconds = None, 0.0
        while future is None:
            try:
                future = self._completed.get(timeout=POLL_SECONDS)
            except queue.Empty:
                seconds = self._cluster.check_workers(seconds, self._gpu)
        _, task = self._tasks.pop(future.key)
        try:
            return task, future.result()
        except KilledWorker as lost:
            return task, lost
        finally:
            future.release()


def _task_name(task: Task) -> str:
    return ", ".join(str(part) for part in task)[:120]

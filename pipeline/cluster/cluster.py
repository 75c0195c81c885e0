"""Tasks on Dask workers: submission as workers need them, retries after the loss of a worker, errors for users."""

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

IN_FLIGHT = 3  # submitted tasks per worker: one that runs, and enough that wait so that it is never idle
POLL_SECONDS = 1.0  # time between checks of scheduler and workers while no task completes
GPU = {"GPU": 1.0}  # resource that a worker with a GPU declares: dask worker --resources GPU=1
RESUME = "finished work is kept; run the same command again to resume"

Task = tuple[Any, ...]


class MemoryPolicy(WorkerPlugin):
    """Dask plugin of a worker process that turns off spilling to disk and pausing for memory.

    By default, Dask pauses a worker at 80 % of its memory limit until memory is freed. SoundFont and codec are never
    freed, so the run would hang. A worker that exceeds its limit is killed by its nanny or the system instead, which is
    reported.
    """

    def setup(self, worker: Any) -> None:
        """Turn off pausing and spilling to disk, and resume a paused worker. Dask calls this in the worker process."""
        memory = worker.memory_manager
        memory.memory_target_fraction = memory.memory_spill_fraction = memory.memory_pause_fraction = False
        if worker.status == Status.paused:
            worker.status = Status.running


class Cluster:
    """Workers of a run. They are started when they are first needed, and ended when the context of this object ends."""

    def __init__(self, workers: Workers) -> None:
        self.workers = workers
        self._stack = ExitStack()
        self._clients: dict[bool, Any] = {}

    def __enter__(self) -> "Cluster":
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def client(self, gpu: bool = False) -> Any:
        """Return the distributed.Client of the workers; with `gpu`, of the separate GPU cluster if there is one.

        The first call starts the workers.

        Raises:
            UserError: the workers cannot be started or their scheduler does not answer.
        """
        key = gpu and self.workers.has_separate_gpu_cluster()
        if key not in self._clients:
            self._clients[key] = self.workers.start(self._stack, key)
            self._register(self._clients[key], MemoryPolicy(), "pvt-memory")
        return self._clients[key]

    def has_gpu(self) -> bool:
        """Return whether a present worker declares the resource GPU, or there is a separate GPU cluster.

        Raises:
            UserError: the workers cannot be started.
        """
        return self.workers.has_separate_gpu_cluster() or bool(self._addresses(gpu=True))

    def size(self) -> int:
        """Return the expected number of workers; where it is not known in advance, the present number, at least 1.

        Raises:
            UserError: the workers cannot be started.
        """
        expected = self.workers.expected()
        return max(1, len(self._addresses(gpu=False)) if expected is None else expected)

    def register(self, plugin: Any, name: str, gpu: bool = False) -> None:
        """Register a WorkerPlugin under `name` with all present and future workers; it replaces one of the same name.

        With `gpu`, the workers are those of the separate GPU cluster if there is one.

        Raises:
            UserError: the workers cannot be started, the connection to the scheduler is lost, workers die in the
                plugin's `setup`, or `setup` raised UserError.
        """
        self._register(self.client(gpu), plugin, name)

    def _register(self, client: Any, plugin: Any, name: str) -> None:
        with self._connection():
            for _ in range(ALLOWED_DEATHS + 1):
                try:
                    client.register_plugin(plugin, name=name)
                    return
                except OSError:  # a worker died in the plugin's set-up
                    if client.status != "running":
                        raise
                    time.sleep(POLL_SECONDS)
            raise UserError(
                f"workers die while they start, perhaps out of memory; give them more ({self.workers.memory_hint()})"
            )

    def run(
        self,
        function: Callable[..., Any],
        tasks: Iterable[Task],
        what: str,
        *,
        gpu: bool = False,
        instead: Callable[[Task], Iterable[Task]] = lambda task: (),
    ) -> Iterator[Any]:
        """Yield the results of `function(*task)`, computed on the workers, in the order of completion.

        Tasks are taken from the iterator only as workers need them. A result is freed when it has arrived; it should be
        small, since it passes through the scheduler. An exception that `function` raises is raised here, and other
        tasks are canceled.

        A task whose worker died repeatedly is retried alone after all others, because another task on the same worker
        may have been the cause. If its workers die again, the tasks of `instead(task)` replace it.

        Args:
            function: a function at the top level of a module.
            tasks: arguments of each call.
            what: name of one task, for messages.
            gpu: whether to use only workers that declare the resource GPU.
            instead: returns the tasks that replace one that kills its workers; with none, the run stops.

        Raises:
            UserError: a task without replacement kills its workers, the workers cannot be started, the connection to
                the scheduler is lost, or there have been no workers for more than `workers.patience_s`.
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
                    name = ", ".join(map(str, task))
                    raise UserError(
                        f"every worker died on one {what} ({name:.120}), perhaps out of memory; give them more "
                        f"({self.workers.memory_hint()}); {RESUME}"
                    )

    def run_on_all(self, function: Callable[..., Any], *arguments: Any, gpu: bool = False) -> list[Any]:
        """Return the results of `function(*arguments)` on all present workers, in any order.

        With `gpu`, only workers that declare the resource GPU are used. Workers that die meanwhile, or on which
        `function` raises, are left out. The call waits until there is at least one result.

        Raises:
            UserError: there have been no workers for more than `workers.patience_s`, the workers cannot be started,
                or the connection to the scheduler is lost.
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
        """Restart workers that Dask does not, and return for how many seconds there have been none.

        The number is 0 if there are some; else it grows by `POLL_SECONDS` with each call.

        Args:
            seconds_without: result of the call before, `POLL_SECONDS` ago; 0 at the first call.
            gpu: whether only workers that declare the resource GPU count.

        Raises:
            UserError: there have been no workers for more than `workers.patience_s`.
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
        """Return the addresses of the present workers; with `gpu`, of those that declare the resource GPU."""
        known = self.client(gpu).scheduler_info(n_workers=-1)["workers"]
        return [address for address, worker in known.items() if not gpu or "GPU" in worker.get("resources", {})]

    @contextmanager
    def _connection(self) -> Iterator[None]:
        """Within the block, turn errors by which Dask reports a lost connection to the scheduler into UserError.

        KeyError, RuntimeError and OSError are turned only if a client has stopped running; all other errors pass
        unchanged.
        """
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
    """Submitted tasks that are not completed; `len` is their number. Those left when the context ends are canceled."""

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
        """Submit tasks to the scheduler without waiting for them."""
        for task in tasks:
            future = self._client.submit(self._function, *task, pure=False, resources=GPU if self._gpu else None)
            self._tasks[future.key] = future, task
            future.add_done_callback(self._completed.put)

    def next_completed(self) -> tuple[Task, Any]:
        """Wait for any task to complete; return it with its result, or with KilledWorker if its worker died repeatedly.

        Any other exception of the task is raised.

        Raises:
            UserError: there have been no workers for more than `workers.patience_s`.
        """
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

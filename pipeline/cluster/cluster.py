"""Tasks on workers: drawn as needed, repeated where a worker is lost, ended in one sentence where that fails."""

import queue
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import islice
from typing import Any

from distributed.scheduler import KilledWorker

from data_specs.errors import UserError
from pipeline.cluster.workers import ALLOWED_DEATHS, Workers

IN_FLIGHT = 3  # tasks for each worker: one at work, and enough waiting that it never idles
LOOK_SECONDS = 1.0  # between looks at scheduler and workers while nothing comes
GPU = {"GPU": 1.0}  # the resource that a worker with a GPU declares: dask worker --resources GPU=1
CONTINUES = "what is finished stands, the same command continues"

Task = tuple[Any, ...]


class Cluster:
    """Workers for a run, started when they are first needed and ended with the block."""

    def __init__(self, workers: Workers) -> None:
        self.workers = workers
        self._stack = ExitStack()
        self._clients: dict[bool, Any] = {}

    def __enter__(self) -> "Cluster":
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def client(self, gpu: bool = False) -> Any:
        """A distributed.Client of the workers, or of those for the GPU where they hang on a scheduler of their own.

        Raises:
            UserError: no scheduler answers.
        """
        key = gpu and self.workers.has_separate_gpu_cluster()
        if key not in self._clients:
            self._clients[key] = self.workers.start(self._stack, key)
        return self._clients[key]

    def has_gpu(self) -> bool:
        """Whether a worker declares the resource GPU, or will."""
        return self.workers.has_separate_gpu_cluster() or bool(self._addresses(gpu=True))

    def size(self) -> int:
        """How many workers there are or, while none have started, will be; at least 1."""
        expected = self.workers.expected()
        return max(1, len(self._addresses(gpu=False)) if expected is None else expected)

    def register(self, plugin: Any, name: str, gpu: bool = False) -> None:
        """Register a WorkerPlugin with all workers, those to come included; a lost worker does not matter.

        Raises:
            UserError: the scheduler is gone, or the plugin raised it on a worker.
        """
        with self._connection():
            for _ in range(ALLOWED_DEATHS):
                try:
                    self.client(gpu).register_plugin(plugin, name=name)
                    return
                except OSError:  # a worker died while it was told
                    time.sleep(LOOK_SECONDS)
            self.client(gpu).register_plugin(plugin, name=name)

    def run(
        self,
        function: Callable[..., Any],
        tasks: Iterable[Task],
        what: str,
        *,
        gpu: bool = False,
        instead: Callable[[Task], Iterable[Task]] = lambda task: (),
    ) -> Iterator[Any]:
        """Results of `function(*task)` on the workers, as they come, each freed on arrival.

        Tasks are drawn only as workers need them, so that an iterator that carries content stays a stream. Results
        are small receipts: arrays go to files, never through the scheduler.

        A task whose worker died again and again is a suspect: it is repeated alone once all others are done, so that
        nobody is blamed for having been beside a culprit, and replaced by `instead` where that fails too.

        Args:
            function: at the top of a module.
            tasks: arguments of each call.
            what: what a task is, for messages.
            gpu: only on workers that declare the resource GPU.
            instead: the tasks that take the place of one which is found guilty; none to give up.

        Raises:
            UserError: a task without replacement kills its workers, the scheduler is lost, or there
                are no workers for longer than `workers.patience_s`.
        """
        with self._connection(), _InFlight(self, function, gpu) as flight:
            waiting = iter(tasks)
            retry_queue: deque[Task] = deque()
            while True:
                room = IN_FLIGHT * max(1, len(self._addresses(gpu))) - len(flight)
                flight.submit(islice(waiting, max(room, 0 if flight else 1)))
                if not flight:
                    break
                task, result = flight.next_completed()
                if isinstance(result, KilledWorker):
                    retry_queue.append(task)
                else:
                    yield result
            while retry_queue:
                flight.submit([retry_queue.popleft()])
                task, result = flight.next_completed()
                if not isinstance(result, KilledWorker):
                    yield result
                elif replaced := tuple(instead(task)):
                    retry_queue.extendleft(reversed(replaced))
                else:
                    raise UserError(
                        f"worker after worker died on one {what} ({_named(task)}), perhaps out of memory; {CONTINUES}; "
                        f"fewer WORKERS need less memory"
                    )

    def run_on_all(self, function: Callable[..., Any], *arguments: Any, gpu: bool = False) -> list[Any]:
        """The function's results on all workers that live long enough to answer, at least one.

        Raises:
            UserError: there are no workers.
        """
        with self._connection():
            without = 0.0
            while True:
                if addresses := self._addresses(gpu):
                    results = self.client(gpu).run(function, *arguments, workers=addresses, on_error="ignore")
                    if results:
                        return list(results.values())
                without = self.check_workers(without, gpu)
                time.sleep(LOOK_SECONDS)

    def check_workers(self, seconds_without: float, gpu: bool) -> float:
        """Called while nothing comes: seconds without workers until now, 0 when there are some.

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
                f"`dask worker`; {CONTINUES}"
            )
        return seconds_without + LOOK_SECONDS

    def _addresses(self, gpu: bool) -> list[str]:
        """Addresses of the workers there are now, with `gpu` of those that declare the resource."""
        known = self.client(gpu).scheduler_info(n_workers=-1)["workers"]
        return [address for address, worker in known.items() if not gpu or "GPU" in worker.get("resources", {})]

    @contextmanager
    def _connection(self) -> Iterator[None]:
        """One sentence for every way in which Dask says that the scheduler is gone."""
        from concurrent.futures import CancelledError

        from distributed.client import ClosedClientError
        from distributed.comm import CommClosedError

        try:
            yield
        except (CancelledError, ClosedClientError, CommClosedError) as error:
            raise UserError(f"{self.workers.lost}; start it and its workers again; {CONTINUES}") from error
        except (KeyError, RuntimeError, OSError) as error:
            if any(client.status != "running" for client in self._clients.values()):
                raise UserError(f"{self.workers.lost}; start it and its workers again; {CONTINUES}") from error
            raise


class _InFlight:
    """Tasks that are on their way: submitted in any number, landing one by one."""

    def __init__(self, cluster: Cluster, function: Callable[..., Any], gpu: bool) -> None:
        self._cluster = cluster
        self._client = cluster.client(gpu)
        self._function = function
        self._gpu = gpu
        self._landed: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._tasks: dict[str, tuple[Any, Task]] = {}

    def __enter__(self) -> "_InFlight":
        return self

    def __exit__(self, *error: object) -> None:
        if self._client.status == "running":
            self._client.cancel([future for future, _ in self._tasks.values()])

    def __len__(self) -> int:
        return len(self._tasks)

    def submit(self, tasks: Iterable[Task]) -> None:
        """Send tasks on their way."""
        for task in tasks:
            future = self._client.submit(self._function, *task, pure=False, resources=GPU if self._gpu else None)
            self._tasks[future.key] = future, task
            future.add_done_callback(self._landed.put)

    def next_completed(self) -> tuple[Task, Any]:
        """The next task to end, and its result or the KilledWorker that says it lost its worker again and again."""
        future, without = None, 0.0
        while future is None:
            try:
                future = self._landed.get(timeout=LOOK_SECONDS)
            except queue.Empty:
                without = self._cluster.check_workers(without, self._gpu)
        _, task = self._tasks.pop(future.key)
        try:
            return task, future.result()
        except KilledWorker as lost:
            return task, lost
        finally:
            future.release()


def _named(task: Task) -> str:
    return ", ".join(str(part) for part in task)[:120]

"""Tasks on workers: drawn as needed, repeated where a worker is lost, ended in one sentence where that fails."""

import queue
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import chain, islice
from typing import Any

from data_specs.errors import UserError
from pipeline.workers import ALLOWED_DEATHS, Workers

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
        key = gpu and self.workers.splits()
        if key not in self._clients:
            self._clients[key] = self.workers.start(self._stack, key)
        return self._clients[key]

    def has_gpu(self) -> bool:
        """Whether a worker declares the resource GPU, or will."""
        return self.workers.splits() or bool(self._addresses(gpu=True))

    def size(self) -> int:
        """How many workers there are or, while none have started, will be; at least 1."""
        expected = self.workers.expected()
        return max(1, len(self._addresses(gpu=False)) if expected is None else expected)

    def equip(self, plugin: Any, name: str, gpu: bool = False) -> None:
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

        Args:
            function: at the top of a module.
            tasks: arguments of each call.
            what: what a task is, for messages.
            gpu: only on workers that declare the resource GPU.
            instead: the tasks that take the place of one which lost its worker again and again; none to give up.

        Raises:
            UserError: a task without replacement killed its worker again and again, the scheduler is lost, or there
                are no workers for longer than `workers.patience_s`.
        """
        from distributed.scheduler import KilledWorker

        with self._connection():
            client = self.client(gpu)
            finished: queue.SimpleQueue[Any] = queue.SimpleQueue()
            again: deque[Task] = deque()
            waiting = iter(tasks)
            running: dict[str, tuple[Any, Task]] = {}

            def submit() -> None:
                room = IN_FLIGHT * max(1, len(self._addresses(gpu))) - len(running)
                for task in chain(_drained(again), islice(waiting, max(room, 0 if running else 1))):
                    future = client.submit(function, *task, pure=False, resources=GPU if gpu else None)
                    running[future.key] = future, task
                    future.add_done_callback(finished.put)

            try:
                submit()
                while running:
                    future = self._next(finished, gpu)
                    _, task = running.pop(future.key)
                    try:
                        result = future.result()
                    except KilledWorker:
                        again.extend(instead(task))
                        if not again:
                            raise UserError(
                                f"a worker died {ALLOWED_DEATHS + 1} times on the same {what} ({_named(task)}), "
                                f"perhaps out of memory; {CONTINUES}; fewer WORKERS need less memory"
                            ) from None
                    else:
                        yield result
                    future.release()
                    submit()
            finally:
                if client.status == "running":
                    client.cancel([future for future, _ in running.values()])

    def everywhere(self, function: Callable[..., Any], *arguments: Any, gpu: bool = False) -> list[Any]:
        """The function's results on all workers that live long enough to answer, at least one.

        Raises:
            UserError: there are no workers.
        """
        with self._connection():
            started = time.monotonic()
            while True:
                if addresses := self._addresses(gpu):
                    results = self.client(gpu).run(function, *arguments, workers=addresses, on_error="ignore")
                    if results:
                        return list(results.values())
                self._be_patient(time.monotonic() - started, gpu)
                time.sleep(LOOK_SECONDS)

    def _next(self, finished: "queue.SimpleQueue[Any]", gpu: bool) -> Any:
        """The next finished future; looks after scheduler and workers while none comes."""
        seen = time.monotonic()
        while True:
            try:
                return finished.get(timeout=LOOK_SECONDS)
            except queue.Empty:
                if self._addresses(gpu):
                    seen = time.monotonic()
                self._be_patient(time.monotonic() - seen, gpu)

    def _be_patient(self, seconds: float, gpu: bool) -> None:
        if seconds > self.workers.patience_s:
            kind = "workers that declare the resource GPU" if gpu else "workers"
            raise UserError(
                f"the Dask scheduler has had no {kind} for {seconds:.0f} s; start some with `dask worker`; {CONTINUES}"
            )

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


def _drained(tasks: "deque[Task]") -> Iterator[Task]:
    while tasks:
        yield tasks.popleft()


def _named(task: Task) -> str:
    return ", ".join(str(part) for part in task)[:120]

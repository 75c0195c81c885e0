"""Queue of jobs: one runs at a time, in a thread; events of each job are streamed to its clients."""

import asyncio
import secrets
import threading
import time
from collections import OrderedDict, deque
from collections.abc import AsyncGenerator, Callable
from typing import Any

from data_specs.errors import UserError

MAX_QUEUE = 64
KEPT_JOBS = 64  # finished ones, whose events can still be read
GRACE_SECONDS = 5.0  # without a client before a job is cancelled

Event = dict[str, Any]


class Cancelled(Exception):
    """The job was cancelled; `StudioJob.check` raises it between two steps of the work."""


class QueueFull(UserError):
    """A job was refused because `MAX_QUEUE` jobs wait already."""


class StudioJob:
    """A piece of work and its events. Construct it on the event loop.

    An event is a dict with the key `kind` and further JSON values.

    Args:
        work: called in the worker thread with the job. It publishes events by `report`, and calls `check` between
            steps.
        attended: whether the queue cancels the job when no client has listened to it for some seconds.
    """

    def __init__(self, work: "Callable[[StudioJob], None]", attended: bool = True) -> None:
        self.id = secrets.token_hex(8)
        self.events: list[Event] = []
        self.finished = False
        self.listeners = 0
        self.attended = attended
        self.left_at = time.monotonic()  # when the last client left
        self.loop = asyncio.get_running_loop()
        self._work = work
        self._cancelled = threading.Event()
        self._changed = asyncio.Event()

    def cancel(self) -> None:
        """Set the request to stop. The work stops when it next calls `check`; no event is published here."""
        self._cancelled.set()

    @property
    def cancelled(self) -> bool:
        """Whether `cancel` was called. The work may still run, or have finished before."""
        return self._cancelled.is_set()

    def check(self) -> None:
        """Do nothing unless the job was cancelled.

        Raises:
            Cancelled: `cancel` was called.
        """
        if self.cancelled:
            raise Cancelled

    def report(self, kind: str, **values: Any) -> None:
        """Schedule an event of a kind with further values for publication. May be called from any thread."""
        self.loop.call_soon_threadsafe(self.publish, {"kind": kind, **values})

    def publish(self, event: Event) -> None:
        """Append an event for the clients; call it on the event loop.

        An event `progress` or `queued` replaces the last event if that is of the same kind. After `done`, `error` or
        `cancelled` the job counts as finished.
        """
        if event["kind"] in ("progress", "queued") and self.events and self.events[-1]["kind"] == event["kind"]:
            self.events[-1] = event
        else:
            self.events.append(event)
        self.finished |= event["kind"] in ("done", "error", "cancelled")
        self._changed.set()

    async def stream(self) -> AsyncGenerator[Event, None]:
        """Yield the events so far, then each new one, until the job has finished.

        Of events that replace each other, some may be left out. The caller counts as a listener until the generator is
        closed.
        """
        self.listeners += 1
        try:
            seen, last = 0, None
            while True:
                self._changed.clear()
                while seen < len(self.events):
                    last = self.events[seen]
                    seen += 1
                    yield last
                if self.events and self.events[-1] is not last:  # replaced in place
                    last = self.events[-1]
                    yield last
                    continue
                if self.finished:
                    return
                await self._changed.wait()
        finally:
            self.listeners -= 1
            self.left_at = time.monotonic()

    def run(self) -> None:
        """Do the work in the calling thread, and publish the outcome as an event.

        The events are `started`, unless the job was cancelled before, and last `done`, `cancelled` or `error`.
        Exceptions of the work are not raised again; their message is in `error`.
        """
        try:
            self.check()
            self.report("started")
            self._work(self)
        except Cancelled:
            self.report("cancelled")
        except UserError as error:
            self.report("error", message=str(error))
        except Exception as error:  # a bug must not end the worker
            self.report("error", message=f"internal error: {type(error).__name__}: {error!s:.200}")
        else:
            self.report("done")


class JobQueue:
    """Queue that runs jobs one at a time in the order of their arrival. Its methods are called on the event loop."""

    def __init__(self) -> None:
        self._waiting: deque[StudioJob] = deque()
        self._jobs: OrderedDict[str, StudioJob] = OrderedDict()
        self._arrived = asyncio.Event()
        self.running: StudioJob | None = None

    def add(self, work: Callable[[StudioJob], None], attended: bool = True) -> StudioJob:
        """Queue a job for `work` and return it; see `StudioJob` for the arguments.

        The oldest finished jobs beyond `KEPT_JOBS` jobs are forgotten.

        Raises:
            QueueFull: `MAX_QUEUE` jobs wait.
        """
        if len(self._waiting) >= MAX_QUEUE:
            raise QueueFull(f"{MAX_QUEUE} jobs wait already; try again later")
        job = StudioJob(work, attended)
        self._jobs[job.id] = job
        self._waiting.append(job)
        self._announce()
        self._arrived.set()
        finished = [key for key, held in self._jobs.items() if held.finished]
        for key in finished[: max(0, len(self._jobs) - KEPT_JOBS)]:
            del self._jobs[key]
        return job

    def get(self, job_id: str) -> StudioJob | None:
        """Return a job that waits, runs or has finished; None if its id is unknown or it was forgotten."""
        return self._jobs.get(job_id)

    def cancel(self, job: StudioJob) -> None:
        """Cancel a job. One that waits leaves the queue at once; one that runs stops at its next `check`."""
        job.cancel()
        if job in self._waiting:
            self._waiting.remove(job)
            job.publish({"kind": "cancelled"})
            self._announce()

    def _announce(self) -> None:
        for place, job in enumerate(self._waiting, 1 if self.running else 0):
            job.publish({"kind": "queued", "position": place})

    async def serve(self) -> None:
        """Run jobs until the task of this coroutine is cancelled; all jobs that wait or run are then cancelled."""
        watch = asyncio.create_task(self._watch())
        try:
            while True:
                while self._waiting:
                    self.running = self._waiting.popleft()
                    self._announce()
                    await asyncio.to_thread(self.running.run)
                    await asyncio.sleep(0)  # let the final event arrive
                    self.running = None
                self._arrived.clear()
                await self._arrived.wait()
        finally:
            watch.cancel()
            for job in (self.running, *self._waiting):
                if job is not None:
                    job.cancel()

    async def _watch(self) -> None:
        """Cancel attended jobs that no client has listened to for `GRACE_SECONDS`. Never returns."""
        while True:
            await asyncio.sleep(GRACE_SECONDS / 5)
            now = time.monotonic()
            for job in (self.running, *list(self._waiting)):
                if job and job.attended and not job.listeners and now - job.left_at > GRACE_SECONDS:
                    self.cancel(job)

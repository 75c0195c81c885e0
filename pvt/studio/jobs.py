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
    """The job was cancelled between two steps."""


class QueueFull(UserError):
    """Too many jobs wait."""


class StudioJob:
    """A piece of work and its events.

    Args:
        work: called in the worker thread with the job; it calls `report` and `check`.
        attended: cancel the job when no client listens to it.
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
        """Request the job to stop before its next step."""
        self._cancelled.set()

    @property
    def cancelled(self) -> bool:
        """Whether the job was asked to stop."""
        return self._cancelled.is_set()

    def check(self) -> None:
        """Raise `Cancelled` if the job was cancelled or abandoned."""
        if self.cancelled:
            raise Cancelled

    def report(self, kind: str, **values: Any) -> None:
        """Publish an event; may be called from the worker thread."""
        self.loop.call_soon_threadsafe(self.publish, {"kind": kind, **values})

    def publish(self, event: Event) -> None:
        """Publish an event on the event loop; progress replaces earlier progress."""
        if event["kind"] in ("progress", "queued") and self.events and self.events[-1]["kind"] == event["kind"]:
            self.events[-1] = event
        else:
            self.events.append(event)
        self.finished |= event["kind"] in ("done", "error", "cancelled")
        self._changed.set()

    async def stream(self) -> AsyncGenerator[Event, None]:
        """Yield all events, past ones first, until the job has finished."""
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
        """Do the work in the worker thread; the outcome is published as an event."""
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
    """Queue that runs jobs in the order of their arrival."""

    def __init__(self) -> None:
        self._waiting: deque[StudioJob] = deque()
        self._jobs: OrderedDict[str, StudioJob] = OrderedDict()
        self._arrived = asyncio.Event()
        self.running: StudioJob | None = None

    def add(self, work: Callable[[StudioJob], None], attended: bool = True) -> StudioJob:
        """Queue a job.

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
        """Return a job that waits, runs, or finished a short time ago."""
        return self._jobs.get(job_id)

    def cancel(self, job: StudioJob) -> None:
        """Cancel a job; one that waits leaves the queue at once."""
        job.cancel()
        if job in self._waiting:
            self._waiting.remove(job)
            job.publish({"kind": "cancelled"})
            self._announce()

    def _announce(self) -> None:
        for place, job in enumerate(self._waiting, 1 if self.running else 0):
            job.publish({"kind": "queued", "position": place})

    async def serve(self) -> None:
        """Run jobs until cancelled."""
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
        """Cancel jobs that no client has listened to for `GRACE_SECONDS`, except those added with attended=False."""
        while True:
            await asyncio.sleep(GRACE_SECONDS / 5)
            now = time.monotonic()
            for job in (self.running, *list(self._waiting)):
                if job and job.attended and not job.listeners and now - job.left_at > GRACE_SECONDS:
                    self.cancel(job)

"""Requests to stop a run, by a signal or a file; the training loop reads them between two steps."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)
STOP_FILE = "stop"


class StopRequest:
    """Request to stop that this rank has received: true once there is one.

    Attributes:
        reason: name of the signal, content or path of the stop file; empty without a request.
    """

    def __init__(self, run: Path) -> None:
        self._file = run / STOP_FILE
        self.reason = ""

    def __bool__(self) -> bool:
        if not self.reason and self._file.exists():
            self.reason = self._file.read_text().strip() or f"the file {self._file}"
        return bool(self.reason)

    def handle(self, number: int, frame: FrameType | None) -> None:
        """Set the request (a signal handler).

        Raises:
            KeyboardInterrupt: Ctrl-C after a first request.
        """
        if self.reason and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.reason = signal.Signals(number).name

    def clear(self) -> None:
        """Remove the stop file, so that the next run of the command resumes."""
        # promise: saved-step-boundary-same-4
        self._file.unlink(missing_ok=True)


@contextmanager
def stop_requests(run: Path) -> Iterator[StopRequest]:
    """Yield a StopRequest that SIGTERM, SIGUSR1, SIGINT and the file RUN/stop set during the block."""
    request = StopRequest(run)
    with handled(request.handle):
        yield request


@contextmanager
def handled(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Handle SIGNALS by `handler` during the block."""
    before = {number: signal.signal(number, handler) for number in SIGNALS}
    try:
        yield
    finally:
        for number, previous in before.items():
            signal.signal(number, previous)

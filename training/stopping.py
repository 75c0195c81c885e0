"""Requests to stop a run, by a signal or a file; the training loop reads them between two steps."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)
STOP_FILE = "stop"


class StopRequest:
    """Request to stop that this rank has received: true once there is a signal or the stop file of `run`.

    Attributes:
        reason: name of the signal, or content of the stop file (its path if it is empty); empty without a request.
    """

    def __init__(self, run: Path) -> None:
        self._file = run / STOP_FILE
        self.reason = ""

    def __bool__(self) -> bool:
        if not self.reason and self._file.exists():
            self.reason = self._file.read_text().strip() or f"the file {self._file}"
        return bool(self.reason)

    def handle(self, number: int, frame: FrameType | None) -> None:
        """Set `reason` to the name of the signal `number`; this method is the handler of signals.

        Raises:
            KeyboardInterrupt: Ctrl-C after a first request.
        """
        if self.reason and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.reason = signal.Signals(number).name

    def clear(self) -> None:
        """Delete the stop file, so that the next run of the command resumes; `reason` is kept."""
        # promise: saved-step-boundary-same-4
        self._file.unlink(missing_ok=True)


@contextmanager
def stop_requests(run: Path) -> Iterator[StopRequest]:
    """Yield a StopRequest that is true after SIGTERM, SIGUSR1 or SIGINT in the block, or if RUN/stop exists."""
    request = StopRequest(run)
    with handled(request.handle):
        yield request


@contextmanager
def handled(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Handle SIGNALS by `handler` during the block; afterwards the earlier handlers are set again."""
    before = {number: signal.signal(number, handler) for number in SIGNALS}
    try:
        yield
    finally:
        for number, previous in before.items():
            signal.signal(number, previous)

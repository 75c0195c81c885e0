"""Requests to stop a run: a signal or a file sets a flag, which the loop reads between two steps."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)
STOP_FILE = "stop"


class StopRequest:
    """Whether this rank has been asked to stop, and by what."""

    def __init__(self, run: Path) -> None:
        self._file = run / STOP_FILE
        self.reason = ""

    def __bool__(self) -> bool:
        if not self.reason and self._file.exists():
            self.reason = self._file.read_text().strip() or f"the file {self._file}"
        return bool(self.reason)

    def handle(self, number: int, frame: FrameType | None) -> None:
        """Signal handler. A second Ctrl-C ends the run at once."""
        if self.reason and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.reason = signal.Signals(number).name

    def clear(self) -> None:
        """Remove the stop file, so that the next call continues."""
        # promise: saved-step-boundary-same-4
        self._file.unlink(missing_ok=True)


@contextmanager
def stop_requests(run: Path) -> Iterator[StopRequest]:
    """A StopRequest that SIGTERM, SIGUSR1, SIGINT and the file `run`/stop set during the block."""
    request = StopRequest(run)
    before = {number: signal.signal(number, request.handle) for number in SIGNALS}
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

"""One call of the script: its time, the commands it runs, and the marks of steps that are done.

A step is done once: its mark, a JSON file below WORK/marks, holds what it was asked for and what it found. Asked for
the same again, it is read; asked for something else, the step is done again.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from data_specs.errors import UserError
from data_specs.io.files import write_json
from training.launch import die_with_parent

ROOT = Path(__file__).parents[2]
POLL_SECONDS = 0.1
GRACE_SECONDS = 15.0  # for a command that was asked to stop: a step of training and a checkpoint

Facts = dict[str, Any]


class OutOfTime(Exception):
    """The call's time is up. What was being done goes on in the next call."""


class Call:
    """Time and folder of one call.

    Args:
        work: folder of everything that the next call needs.
        seconds: how long the call may take from now.
    """

    def __init__(self, work: Path, seconds: float) -> None:
        self.work, self.seconds = work.resolve(), seconds
        self.started = time.monotonic()
        self._deadline = self.started + seconds

    def left(self) -> float:
        """Seconds until the deadline, not below 0."""
        return max(0.0, self._deadline - time.monotonic())

    def end(self) -> None:
        """Be out of time now."""
        self._deadline = min(self._deadline, time.monotonic())

    def mark(self, name: str) -> Facts | None:
        """What the mark of a step holds: `inputs` and `found`; None where there is none."""
        try:
            held: Facts = json.loads(self._mark(name).read_bytes())
        except (FileNotFoundError, ValueError):
            return None
        return held

    def done(self, name: str, inputs: Facts) -> Facts | None:
        """What a step found when it was done with these inputs; None if that is still to do."""
        held = self.mark(name)
        return held["found"] if held and held["inputs"] == json.loads(json.dumps(inputs)) else None

    def once(self, name: str, inputs: Facts, do: Callable[[], Facts]) -> Facts:
        """What a step finds: read from its mark, or done now.

        Raises:
            OutOfTime: there is no time left to begin, or to end.
        """
        if (found := self.done(name, inputs)) is not None:
            return found
        if not self.left():
            raise OutOfTime
        began = time.monotonic()
        found = {**do(), "wall_seconds": round(time.monotonic() - began, 2)}
        write_json(self._mark(name), {"inputs": inputs, "found": found})
        return found

    def _mark(self, name: str) -> Path:
        return self.work / "marks" / f"{name}.json"

    def log(self, name: str) -> Path:
        """Where a command's output goes."""
        return self.work / "logs" / f"{name}.log"

    def python(
        self, name: str, arguments: Sequence[str], enough: Callable[[], bool] = lambda: False
    ) -> list[tuple[float, str]]:
        """Run `python ARGUMENTS` in the project's root until it ends or is `enough`, when it is asked to stop.

        The command dies with this process. It is asked to stop by SIGTERM, which training takes to save its state.

        Returns:
            Lines of its output, each with the time (monotonic, seconds) at which it was seen.

        Raises:
            OutOfTime: the deadline came first; the command has been stopped.
            UserError: the command failed; its own last line says why.
        """
        path = self.log(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        seen: list[tuple[float, str]] = []
        with open(path, "ab") as out, open(path, "rb") as back:
            back.seek(0, os.SEEK_END)
            process = subprocess.Popen(
                [sys.executable, *arguments],
                cwd=ROOT,
                stdout=out,  # a file, so that a command whose parent was killed can still speak while it saves
                stderr=subprocess.STDOUT,
                env={**os.environ, "PYTHONUNBUFFERED": "1"},
                start_new_session=True,
                preexec_fn=die_with_parent,  # safe, since this process has no threads
            )
            rest, asked = b"", False
            try:
                while process.poll() is None and self.left() and not (asked := enough()):
                    time.sleep(POLL_SECONDS)
                    rest = _lines(rest + back.read(), seen)
            finally:
                cut = process.poll() is None
                _stop(process, GRACE_SECONDS + (self.left() if asked else 0.0))
            if rest := _lines(rest + back.read(), seen):
                _lines(rest + b"\n", seen)
        if cut and not asked:
            raise OutOfTime
        if process.returncode and not cut:
            said = next((line for _, line in reversed(seen) if line.strip()), "it said nothing")
            sentence = said.removeprefix("error: ")
            raise UserError(f"python {' '.join(arguments[:3])} failed: {sentence:.600} (its output is in {path})")
        return seen


def _lines(text: bytes, seen: list[tuple[float, str]]) -> bytes:
    """Move whole lines to `seen`; returns what is left."""
    *whole, rest = text.split(b"\n")
    now = time.monotonic()
    seen += [(now, line.decode(errors="replace").rpartition("\r")[2]) for line in whole]
    return rest


def _stop(process: subprocess.Popen[bytes], seconds: float) -> None:
    """Ask a process to stop, wait for so long, and end whatever is left of it and its children."""
    if process.poll() is None:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(seconds)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()

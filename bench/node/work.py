"""Time budget of one call, the commands it runs, and records of finished steps.

The record of a step, a JSON file below WORK/marks, holds its inputs and results. A step with equal inputs is read from
its record; other inputs run it again.
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
GRACE_SECONDS = 15.0  # after SIGTERM: a training step and a checkpoint

Facts = dict[str, Any]


class OutOfTime(Exception):
    """The budget is spent; the next call resumes."""


class TimeBudget:
    """Time and folder of one call.

    Args:
        work: folder of the state that the next call resumes from.
        seconds: limit from now.
    """

    def __init__(self, work: Path, seconds: float) -> None:
        self.work, self.seconds = work.resolve(), seconds
        self.started = time.monotonic()
        self._deadline = self.started + seconds

    def seconds_left(self) -> float:
        """Seconds until the deadline, at least 0."""
        return max(0.0, self._deadline - time.monotonic())

    def expire(self) -> None:
        """End the budget now."""
        self._deadline = min(self._deadline, time.monotonic())

    def step_record(self, name: str) -> Facts | None:
        """Record of a step, with `inputs` and `found`; None if there is none."""
        try:
            held: Facts = json.loads(self._record_path(name).read_bytes())
        except (FileNotFoundError, ValueError):
            return None
        return held

    def done(self, name: str, inputs: Facts) -> Facts | None:
        """Results of a step that is finished with these inputs, else None."""
        held = self.step_record(name)
        return held["found"] if held and held["inputs"] == json.loads(json.dumps(inputs)) else None

    def run_step(self, name: str, inputs: Facts, do: Callable[[], Facts]) -> Facts:
        """Results of a step, read from its record or computed now.

        Raises:
            OutOfTime: no time is left.
        """
        if (found := self.done(name, inputs)) is not None:
            return found
        if not self.seconds_left():
            raise OutOfTime
        began = time.monotonic()
        found = {**do(), "wall_seconds": round(time.monotonic() - began, 2)}
        write_json(self._record_path(name), {"inputs": inputs, "found": found})
        return found

    def _record_path(self, name: str) -> Path:
        return self.work / "marks" / f"{name}.json"

    def log(self, name: str) -> Path:
        """File of a command's output."""
        return self.work / "logs" / f"{name}.log"

    def python(
        self, name: str, arguments: Sequence[str], enough: Callable[[], bool] = lambda: False
    ) -> list[tuple[float, str]]:
        """Run `python ARGUMENTS` in the project's root until it ends, or stop it by SIGTERM when `enough` returns true.

        The command dies with this process. Training saves its state on SIGTERM.

        Returns:
            Lines of its output, each with the time (monotonic, seconds) at which it was seen.

        Raises:
            OutOfTime: the deadline passed; the command has been stopped.
            UserError: the command failed; the message quotes its last line.
        """
        path = self.log(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        seen: list[tuple[float, str]] = []
        with open(path, "ab") as out, open(path, "rb") as back:
            back.seek(0, os.SEEK_END)
            process = subprocess.Popen(
                [sys.executable, *arguments],
                cwd=ROOT,
                stdout=out,  # a file, so that a command whose parent was killed can still write while it saves
                stderr=subprocess.STDOUT,
                env={**os.environ, "PYTHONUNBUFFERED": "1"},
                start_new_session=True,
                preexec_fn=die_with_parent,  # safe, since this process has no threads
            )
            rest, asked = b"", False
            try:
                while process.poll() is None and self.seconds_left() and not (asked := enough()):
                    time.sleep(POLL_SECONDS)
                    rest = _lines(rest + back.read(), seen)
            finally:
                cut = process.poll() is None
                _stop(process, GRACE_SECONDS + (self.seconds_left() if asked else 0.0))
            if rest := _lines(rest + back.read(), seen):
                _lines(rest + b"\n", seen)
        if cut and not asked:
            raise OutOfTime
        if process.returncode and not cut:
            said = next((line for _, line in reversed(seen) if line.strip()), "it wrote nothing")
            sentence = said.removeprefix("error: ")
            raise UserError(f"python {' '.join(arguments[:3])} failed: {sentence:.600} (its output is in {path})")
        return seen


def _lines(text: bytes, seen: list[tuple[float, str]]) -> bytes:
    """Move complete lines to `seen`; returns the rest."""
    *whole, rest = text.split(b"\n")
    now = time.monotonic()
    seen += [(now, line.decode(errors="replace").rpartition("\r")[2]) for line in whole]
    return rest


def _stop(process: subprocess.Popen[bytes], seconds: float) -> None:
    """Send SIGTERM, wait for `seconds`, then kill the process and its children."""
    if process.poll() is None:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(seconds)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()

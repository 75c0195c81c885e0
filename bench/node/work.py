"""Time budget of one call, the commands it runs, and records of finished steps.

The record of a step is a JSON file in WORK/records with its inputs and results. A step is run again if its inputs
differ from those in the record.
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
GRACE_SECONDS = 15.0  # between SIGTERM and SIGKILL, for a training step and a checkpoint

Facts = dict[str, Any]


class OutOfTime(Exception):
    """Raised when the time of the call is over; the next call resumes."""


class TimeBudget:
    """Time and folder of one call.

    Args:
        work: folder of the state for the next call.
        seconds: time limit, from now.
    """

    def __init__(self, work: Path, seconds: float) -> None:
        self.work = work.resolve()
        self.started = time.monotonic()
        self._deadline = self.started + seconds

    def seconds_left(self) -> float:
        """Return the seconds until the deadline, at least 0."""
        return max(0.0, self._deadline - time.monotonic())

    def expire(self) -> None:
        """Set the deadline to now, unless it has passed."""
        self._deadline = min(self._deadline, time.monotonic())

    def record(self, name: str, inputs: Facts, found: Facts) -> Facts:
        """Write the inputs and results `found` of the step `name` to WORK/records, and return `found`."""
        write_json(self.work / "records" / f"{name}.json", {"inputs": inputs, "found": found})
        return found

    def recorded(self, name: str, inputs: Facts | None = None) -> Facts:
        """Return the recorded results of a step.

        They are empty if there is no readable record, or if `inputs` is given and differs from the recorded inputs.
        """
        try:
            held: Facts = json.loads((self.work / "records" / f"{name}.json").read_bytes())
        except (FileNotFoundError, ValueError):
            return {}
        found: Facts = held["found"]
        return found if inputs is None or held["inputs"] == json.loads(json.dumps(inputs)) else {}

    def run_step(self, name: str, inputs: Facts, do: Callable[[], Facts]) -> Facts:
        """Return the results of a step: from its record if the inputs are the same, else those of `do`, recorded.

        The record also has `wall_seconds`, the duration of `do`.

        Raises:
            OutOfTime: no time is left.
        """
        if found := self.recorded(name, inputs):
            return found
        if not self.seconds_left():
            raise OutOfTime
        began = time.monotonic()
        return self.record(name, inputs, {**do(), "wall_seconds": round(time.monotonic() - began, 2)})

    def python(self, name: str, arguments: Sequence[str], watch: Callable[[], None] = lambda: None) -> str:
        """Run `python ARGUMENTS` in the folder of the project; call `watch` every POLL_SECONDS until it ends.

        Its output is appended to WORK/logs/<name>.log. The command is terminated if this process dies. At the deadline
        it gets SIGTERM, at which training saves its state, and after GRACE_SECONDS it is killed.

        Returns:
            Last line of the output that is not blank; a fixed text without output.

        Raises:
            OutOfTime: the deadline passed, and the command was stopped.
            UserError: the command failed; the message has its last line.
        """
        path = self.work / "logs" / f"{name}.log"
        path.parent.mkdir(parents=True, exist_ok=True)
        environment = {"PYTHONUNBUFFERED": "1", "TORCHINDUCTOR_CACHE_DIR": str(self.work / "compiled")}
        with open(path, "ab") as out:
            begins = out.tell()
            process = subprocess.Popen(
                [sys.executable, *arguments],
                cwd=ROOT,
                stdout=out,  # a file, so that a command whose parent was killed can still write while it saves
                stderr=subprocess.STDOUT,
                env={**os.environ, **environment},
                start_new_session=True,
                preexec_fn=die_with_parent,  # safe, since this process has no threads
            )
            try:
                while process.poll() is None and self.seconds_left():
                    time.sleep(POLL_SECONDS)
                    watch()
            finally:
                cut = process.poll() is None
                _stop(process)
        if cut:
            raise OutOfTime
        lines = path.read_bytes()[begins:].decode(errors="replace").split("\n")
        last = next((line.rpartition("\r")[2] for line in reversed(lines) if line.strip()), "it wrote nothing")
        if process.returncode:
            sentence = last.removeprefix("error: ")
            raise UserError(f"python {' '.join(arguments[:3])} failed: {sentence:.600} (its output is in {path})")
        return last


def _stop(process: subprocess.Popen[bytes]) -> None:
    """Send SIGTERM if the process runs, wait at most GRACE_SECONDS, then kill all processes of its group."""
    if process.poll() is None:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(GRACE_SECONDS)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()

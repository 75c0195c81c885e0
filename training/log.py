"""What a run says while it runs: RUN/log.jsonl, TensorBoard, a progress bar on terminals, lines elsewhere."""

import json
import resource
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any, Self

import torch
from tqdm import tqdm

from data_specs.errors import UserError
from data_specs.io.files import disk_errors, write_bytes

LOG_FILE = "log.jsonl"


def read_log(run: Path) -> list[dict[str, Any]]:
    """The lines of RUN/log.jsonl; a last line that was cut off by a kill is left out.

    Raises:
        UserError: another line is not one of a run.
    """
    path = run / LOG_FILE
    lines = path.read_bytes().split(b"\n")[:-1] if path.exists() else []
    try:
        found = [json.loads(line) for line in lines]
        if all(type(line["step"]) is int for line in found):
            return found
    except (ValueError, TypeError, KeyError, RecursionError):
        pass
    raise UserError(f"{path} holds a line that no run has written; take it out, or move the file away")


@dataclass
class Meter:
    """What has been seen since the last line of the log; part of the saved state, so that no line is cut short."""

    loss_sum: float = 0.0
    losses: int = 0
    skipped: int = 0  # steps whose loss or gradient was not finite
    seconds: float = 0.0
    waited: float = 0.0
    train_seconds: float = 0.0  # since the first step of the run

    def loss(self, value: float | None) -> None:
        """The mean loss of a step; None when the step was skipped."""
        self.skipped += value is None
        self.losses += value is not None
        self.loss_sum += value or 0.0

    def time(self, seconds: float, waited: float) -> None:
        """How long a step took, and how much of that was waiting for data."""
        self.seconds += seconds
        self.waited += waited
        self.train_seconds += seconds

    def line(self, batch: int) -> dict[str, float | int | None]:
        """Means since the last line, which ends here. `loss` is None when every step was skipped."""
        steps = self.losses + self.skipped
        values = {
            "loss": self.loss_sum / self.losses if self.losses else None,
            "skipped": self.skipped,
            "clips_per_second": steps * batch / self.seconds if self.seconds else None,
            "wait_share": self.waited / self.seconds if self.seconds else None,
        }
        self.loss_sum, self.losses, self.skipped, self.seconds, self.waited = 0.0, 0, 0, 0.0, 0.0
        return values


class RunLog:
    """Writes one run's log; continues it at `step`, so lines beyond that step, which are made again, are dropped.

    Args:
        run: folder of the run.
        step: steps done so far.
        steps: steps in all.
        main: whether this rank writes; on the others every method does nothing.
    """

    def __init__(self, run: Path, step: int, steps: int, main: bool) -> None:
        self._main = main
        if not main:
            return
        kept = [line for line in read_log(run) if step and line["step"] <= step]
        self._path = run / LOG_FILE
        write_bytes(self._path, b"".join(_line(line) for line in kept))
        self._file = open(self._path, "ab")  # noqa: SIM115 (closed on exit)
        self._board = _summary_writer(run / "tensorboard", step)
        self._bar = tqdm(total=steps, initial=step, unit="step", disable=not sys.stderr.isatty(), dynamic_ncols=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._main:
            self._bar.close()
            with disk_errors(self._path):
                self._board.close()
                self._file.close()

    def line(self, step: int, **values: float | int | None) -> None:
        """One line of log.jsonl; its numbers go to TensorBoard too."""
        if not self._main:
            return
        with disk_errors(self._path):
            self._file.write(_line({"step": step, **values}))
            self._file.flush()
            for name, value in values.items():
                if value is not None:
                    self._board.add_scalar(name, value, step)
        if values.get("loss") is not None:
            self._bar.set_postfix_str(f"loss {values['loss']:.4f}", refresh=False)

    def advance(self) -> None:
        """One step is done."""
        if self._main:
            self._bar.update()

    def say(self, text: str) -> None:
        """One line for a person, above the progress bar."""
        if self._main:
            self._bar.write(text, file=sys.stdout)
            sys.stdout.flush()

    def sound(self, name: str, audio: Any, sample_rate: int, step: int) -> None:
        """Audio [1, N] for TensorBoard."""
        if self._main:
            with disk_errors(self._path):
                self._board.add_audio(name, audio, step, sample_rate=sample_rate)

    def figure(self, name: str, image: Any, step: int) -> None:
        """An image, uint8 [H, W, 3], for TensorBoard."""
        if self._main:
            with disk_errors(self._path):
                self._board.add_image(name, image, step, dataformats="HWC")


def due(step: int, every: int) -> bool:
    """Whether something that happens every `every` steps (0: never) happens after `step`."""
    return every > 0 and step % every == 0


def peak_memory_mb(device: torch.device) -> float:
    """Largest memory so far in MB (10^6 bytes): of tensors on a GPU, of the whole process on a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e6
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6


def _line(values: dict[str, Any]) -> bytes:
    return (json.dumps(values, allow_nan=False) + "\n").encode()


def _summary_writer(folder: Path, step: int) -> Any:
    # TensorBoard imports TensorFlow when it is installed, unless this module exists; its stub is all that is needed.
    sys.modules.setdefault("tensorboard.compat.notf", ModuleType("tensorboard.compat.notf"))
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(str(folder), purge_step=step + 1)

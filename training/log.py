"""Log of a run: RUN/log.jsonl, TensorBoard, and a progress bar on terminals."""

import json
import math
import resource
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Self

import torch
from torch import nn
from tqdm import tqdm

from data_specs.errors import UserError
from data_specs.io.files import disk_errors, write_bytes
from training.config import RunConfig
from training.data.loader import Batch

LOG_FILE = "log.jsonl"
ESTIMATE_STEPS = 10  # after which the duration of the remaining steps is estimated


def read_log(run: Path) -> list[dict[str, Any]]:
    """Return the lines of RUN/log.jsonl as dicts, without an incomplete last line (of a killed run).

    The result is empty if there is no file.

    Raises:
        UserError: another line is damaged.
    """
    path = run / LOG_FILE
    lines = path.read_bytes().split(b"\n")[:-1] if path.exists() else []
    try:
        found = [json.loads(line) for line in lines]
        if all(type(line["step"]) is int for line in found):
            return found
    except (ValueError, TypeError, KeyError, RecursionError):
        pass
    raise UserError(f"{path} has a damaged line; remove that line, or move the file away")


@dataclass
class Meter:
    """Number of steps of a run, its seconds, and sums since the last call of `pop_means`.

    Checkpoints contain it, so that the log of a resumed run has the same lines as one without a stop.
    """

    step: int = 0  # number of steps done
    skipped_in_a_row: int = 0
    loss_sum: float = 0.0
    losses: int = 0
    skipped: int = 0  # steps whose loss or gradient was not finite
    seconds: float = 0.0
    waited: float = 0.0  # seconds of waiting for data
    train_seconds: float = 0.0  # of all steps of the run

    def update(self, loss: float | None, seconds: float, waited: float) -> None:
        """Add one step.

        Args:
            loss: mean over the clips of the batch; None if the step was skipped.
            seconds: duration of the step, waiting included.
            waited: seconds of it spent waiting for data.
        """
        self.step += 1
        self.skipped_in_a_row = self.skipped_in_a_row + 1 if loss is None else 0
        self.skipped += loss is None
        self.losses += loss is not None
        self.loss_sum += loss or 0.0
        self.seconds += seconds
        self.waited += waited
        self.train_seconds += seconds

    def pop_means(self, batch: int) -> dict[str, float | int | None]:
        """Return figures of the steps since the last call by name, and set the sums to zero.

        They are the mean `loss`, the number of `skipped` steps, `clips_per_second` for batches of `batch` clips, and
        `wait_share`, the share of the time spent waiting for data. A mean or rate is None if no step was counted.
        """
        steps = self.losses + self.skipped
        values = {
            "loss": self.loss_sum / self.losses if self.losses else None,
            "skipped": self.skipped,
            "clips_per_second": steps * batch / self.seconds if self.seconds else None,
            "wait_share": self.waited / self.seconds if self.seconds else None,
        }
        self.loss_sum, self.losses, self.skipped, self.seconds, self.waited = 0.0, 0, 0, 0.0, 0.0
        return values

    def state_dict(self) -> dict[str, Any]:
        """Return all fields by name."""
        return asdict(self)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Set all fields to a state that `state_dict` returned."""
        self.__init__(**state)  # type: ignore[misc]


class RunLog:
    """Writer of the log of a run.

    Lines of an earlier log after `step` are deleted, since resuming repeats those steps; for step 0 all are.

    Args:
        run: folder of the run.
        step: number of steps done.
        steps: total number of steps.
        main: whether this rank writes; if not, every method does nothing.

    Raises:
        UserError: the earlier log has a damaged line.
    """

    def __init__(self, run: Path, step: int, steps: int, main: bool) -> None:
        self._main = main
        if not main:
            return
        self._first = self._step = step
        self._second_step: float | None = None
        self._estimated = False
        self._steps = steps
        kept = [line for line in read_log(run) if step and line["step"] <= step]
        self._path = run / LOG_FILE
        write_bytes(self._path, b"".join(_line(line) for line in kept))
        self._file = open(self._path, "ab")  # noqa: SIM115 (closed on exit)
        self._board = _summary_writer(run / "tensorboard", step)
        self._bar = tqdm(total=steps, initial=step, unit="step", disable=not sys.stderr.isatty(), dynamic_ncols=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        if self._main:
            self._bar.close()
            with disk_errors(self._path):
                self._board.close()
                self._file.close()

    def scalars(self, step: int, **values: float | int | None) -> None:
        """Write numbers of a step to TensorBoard and as one line of log.jsonl.

        None and numbers that are not finite are null in log.jsonl and left out of TensorBoard. A `loss` is shown in the
        progress bar.
        """
        if not self._main:
            return
        values = {name: value if value is None or math.isfinite(value) else None for name, value in values.items()}
        with disk_errors(self._path):
            self._file.write(_line({"step": step, **values}))
            self._file.flush()
            for name, value in values.items():
                if value is not None:
                    self._board.add_scalar(name, value, step)
        if values.get("loss") is not None:
            self._bar.set_postfix_str(f"loss {values['loss']:.4f}", refresh=False)

    def advance(self, steps: int = 1) -> None:
        """Advance the progress bar by `steps`; once, after about ESTIMATE_STEPS steps, print the remaining time."""
        if not self._main:
            return
        self._bar.update(steps)
        self._step += steps
        now, done = time.perf_counter(), self._step - self._first
        if self._second_step is None:  # the first step also compiles and allocates
            self._second_step, self._first = now, self._step
        elif done >= ESTIMATE_STEPS - 1 and not self._estimated and (remaining := self._steps - self._step):
            self._estimated = True
            seconds = (now - self._second_step) / done
            self.print(f"{seconds:.2g} s per step: about {_duration(seconds * remaining)} to step {self._steps}")

    def print(self, text: str) -> None:
        """Print a line of text to stdout, above the progress bar."""
        if self._main:
            self._bar.write(text, file=sys.stdout)
            sys.stdout.flush()

    def audio(self, name: str, audio: Any, sample_rate: int, step: int) -> None:
        """Write audio [1, N] in -1..1 to TensorBoard."""
        if self._main:
            with disk_errors(self._path):
                self._board.add_audio(name, audio, step, sample_rate=sample_rate)

    def image(self, name: str, image: Any, step: int) -> None:
        """Write an image, uint8 [H, W, 3], to TensorBoard."""
        if self._main:
            with disk_errors(self._path):
                self._board.add_image(name, image, step, dataformats="HWC")


def summary(run: Path, config: RunConfig, network: nn.Module, batch: Batch, device: torch.device, step: int) -> str:
    """Return the text printed before the first step: config, parameters by module, tensor shapes and device."""
    values = config.model_dump(mode="json")
    lines = [f"run {run}: " + (f"resuming at step {step}" if step else "new")]
    for name, value in values.items():
        text = ", ".join(f"{key} {one}" for key, one in value.items()) if isinstance(value, dict) else value
        lines.append(f"  {name}: {text}")
    for name, module in network.named_children():
        if count := sum(parameter.numel() for parameter in module.parameters()):
            lines.append(f"  {name:12} {type(module).__name__:16} {count:>12,} parameters")
    total = sum(parameter.numel() for parameter in network.parameters())
    lines.append(f"  {'total':29} {total:>12,} parameters")
    for name, tensor in (("data", batch.data), ("controls", batch.controls)):
        lines.append(f"  {name} {list(tensor.shape)} {str(tensor.dtype).removeprefix('torch.')}")
    threads = f", {torch.get_num_threads()} threads" if device.type == "cpu" else ""
    return "\n".join([*lines, f"  device {device}{threads}"])


def due(step: int, every: int) -> bool:
    """Return whether something done every `every` steps (0: never) is done after `step`."""
    return every > 0 and step % every == 0


def peak_memory_mb(device: torch.device) -> float:
    """Return peak memory in MB (10^6 bytes): of tensors on a CUDA GPU, else the resident memory of the process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e6
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6


def _duration(seconds: float) -> str:
    """Format a duration in s below 90 s, in min below 90 min, else in h: "40 s", "12 min", "3.5 h"."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _line(values: dict[str, Any]) -> bytes:
    return (json.dumps(values, allow_nan=False) + "\n").encode()


def _summary_writer(folder: Path, step: int) -> Any:
    # TensorBoard imports TensorFlow if it is installed, unless this module exists.
    sys.modules.setdefault("tensorboard.compat.notf", ModuleType("tensorboard.compat.notf"))
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(str(folder), purge_step=step + 1)

"""Training of the models for a number of seconds, and their snapshots with weights in float16."""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.node.work import Facts, TimeBudget
from data_specs.io.locks import locked
from training.checkpoint import CHECKPOINTS, find_snapshot, read_snapshot, write_half
from training.log import read_log

STEPS = 10**9  # more than any run does: runs end by time
EQUAL = 0.01  # relative tolerance of the seconds of a run
# Validation and previews cost time and do not affect weights.
ALONE = "logging.valid_every=0 logging.listen_every=0 logging.checkpoint_every=0 logging.keep_checkpoints=1"


@dataclass(frozen=True)
class Model:
    """Paradigm and format of a model, and the number of sampler steps with which it is scored."""

    paradigm: str
    format: str
    sampler_steps: int

    @property
    def name(self) -> str:
        """Name in tables and files."""
        return f"{self.paradigm}-{self.format}"


MODELS = (
    Model("edm", "encodec", 18),
    Model("ddpm", "encodec", 100),
    Model("discdpm", "disc", 50),
    Model("edm", "cqt", 18),
)
MAIN = MODELS[0]  # trained on after the comparison


def run_folder(work: Path, model: Model) -> Path:
    """Return the folder of the run of a model, WORK/runs/<name>."""
    return work / "runs" / model.name


def snapshot_file(work: Path, model: Model) -> Path:
    """Return the path of the newest snapshot of a model with weights in float16, WORK/snapshots/<name>.safetensors.

    The file may not exist.
    """
    return work / "snapshots" / f"{model.name}.safetensors"


def train(
    budget: TimeBudget,
    model: Model,
    config: str,
    data: Path,
    seconds: float,
    out: Path,
    save_seconds: int,
    extra: Sequence[str] = (),
) -> Facts:
    """Train a model up to `seconds` in total over all calls and return its `progress`.

    Training resumes from the run in WORK or, if there is none, from the snapshot of an earlier call. At each
    checkpoint, a snapshot is exported to WORK and to `out`. Nothing is done if the seconds are reached within 1 %.

    Args:
        budget: time and folder of the call.
        model: the model.
        config: name or path of the config.
        data: folder of the datasets.
        seconds: seconds of training in total.
        out: folder of the output.
        save_seconds: seconds between checkpoints.
        extra: further options of the command `train`.

    Raises:
        OutOfTime: the time is over; the next call resumes.
        UserError: the training failed.
    """
    run = run_folder(budget.work, model)
    if progress(budget, model).get("train_seconds", 0.0) < seconds * (1 - EQUAL):
        with locked(run / ".lock", str(run), wait=True):  # held by a trainer whose call was killed just before
            pass
        earlier = budget.recorded(f"carried-{model.name}")
        limit = seconds - earlier.get("train_seconds", 0.0)
        overrides = f"{ALONE} logging.checkpoint_seconds={save_seconds} machine.max_train_seconds={limit}"
        command = ["-m", "training", "train", "--paradigm", model.paradigm, "--format", model.format]
        command += ["--config", config, "--set", overrides, "--steps", str(STEPS)]
        command += ["--data", str(data), "--run", str(run), *extra]
        command += ["--init", str(snapshot_file(budget.work, model))] if earlier else []
        exported = newest(run)

        def watch() -> None:
            nonlocal exported
            if newest(run) != exported:
                exported = newest(run)
                export(budget, model, out)

        try:
            budget.python(f"train-{model.name}", command, watch)
        finally:
            if newest(run):
                export(budget, model, out)
    return progress(budget, model)


def newest(run: Path) -> str:
    """Return the name of the folder of the newest checkpoint of a run; empty if there is none."""
    return max((path.parent.name for path in run.glob(f"{CHECKPOINTS}/step-*/checkpoint.json")), default="")


def export(budget: TimeBudget, model: Model, out: Path) -> None:
    """Write the newest snapshot with weights in float16 to WORK and `out`, and record the progress of the model."""
    file = snapshot_file(budget.work, model)
    write_half(find_snapshot(run_folder(budget.work, model)), file)
    shutil.copyfile(file, out / file.name)
    budget.record(f"progress-{model.name}", {}, progress(budget, model))


def progress(budget: TimeBudget, model: Model) -> Facts:
    """Return steps, seconds, rates, losses and memory of a model up to its newest checkpoint, over all calls.

    Rates, losses and memory are those of the present run. Without a checkpoint, the result is the record restored from
    an earlier call, or empty.
    """
    run, earlier = run_folder(budget.work, model), budget.recorded(f"carried-{model.name}")
    if not newest(run):
        return earlier
    _, facts = read_snapshot(find_snapshot(run))
    training, steps, seconds = facts["config"]["training"], facts["step"], facts["train_seconds"]
    lines = read_log(run)
    memory = [line["peak_memory_mb"] for line in lines if "peak_memory_mb" in line]
    waits = [line["wait_share"] for line in lines if line.get("wait_share") is not None]
    losses = [line["loss"] for line in lines if line.get("loss") is not None]
    tail = losses[-max(1, len(losses) // 10) :]
    return {
        "steps": earlier.get("steps", 0) + steps,
        "train_seconds": round(earlier.get("train_seconds", 0.0) + seconds, 2),
        "batch": training["batch"],
        "precision": training["precision"],
        "steps_per_second": round(steps / seconds, 3),
        "clips_per_second": round(steps * training["batch"] / seconds, 2),
        "peak_memory_mb": max(memory, default=None),
        "wait_share": sum(waits) / len(waits) if waits else None,
        "last_loss": sum(tail) / len(tail) if tail else None,
    }

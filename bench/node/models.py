"""Stage 2: train each model for equally many seconds and measure the rate of steps."""

import json
import math
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.node.work import Facts, OutOfTime, TimeBudget
from data_specs.io.files import write_bytes
from data_specs.io.locks import locked
from training.config import config_path
from training.log import LOG_FILE, read_log

STEPS = 10**9  # in total: runs end by time, not by number of steps
EQUAL = 0.01  # relative tolerance of the seconds of a run
# Parts of a config that cost time and do not affect weights: previews and validation are off.
# A killed run loses at most the steps since its last checkpoint.
LOGGING = {
    "cpu": {"log_every": 1, "valid_every": 0, "listen_every": 0, "checkpoint_every": 25, "keep_checkpoints": 1},
    "cuda": {"log_every": 10, "valid_every": 0, "listen_every": 0, "checkpoint_every": 250, "keep_checkpoints": 1},
}


@dataclass(frozen=True)
class Model:
    """A paradigm on a format."""

    paradigm: str
    format: str

    @property
    def name(self) -> str:
        """Name in tables and files."""
        return f"{self.paradigm}-{self.format}"


MODELS = (Model("edm", "encodec"), Model("ddpm", "encodec"), Model("discdpm", "disc"), Model("edm", "cqt"))


def write_config(name: str, device: str, folder: Path) -> Path:
    """Copy a config, by name or path, with minimal logging; returns the path of the copy."""
    path = config_path(name)
    values = tomllib.loads(path.read_text(encoding="utf-8"))
    values["logging"] = {**values.get("logging", {}), **LOGGING[device]}
    copy = folder / f"{path.stem}.toml"
    write_bytes(copy, "".join(f"{key} = {toml(value)}\n" for key, value in values.items()).encode())
    return copy


def toml(value: Any) -> str:
    """Format a value as TOML, tables and lists on one line."""
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {toml(held)}" for key, held in value.items()) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(map(toml, value)) + "]"
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return json.dumps(value)  # strings, numbers and booleans as in JSON


def train(
    budget: TimeBudget, model: Model, config: Path, data: Path, seconds: float, extra: Sequence[str] = ()
) -> None:
    """Train a model for `seconds` in total; an unfinished run is resumed, a finished one is kept.

    Raises:
        OutOfTime: the budget ended first; the next call resumes.
    """
    run = budget.work / "runs" / model.name
    log = run / LOG_FILE
    old = log.stat().st_ino if log.exists() else None

    def enough() -> bool:
        # The trainer rewrites the log when it starts; until then the log may hold steps lost with their process.
        return log.exists() and log.stat().st_ino != old and logged_seconds(run) >= seconds

    if trained_seconds(run) < seconds * (1 - EQUAL):
        with locked(run / ".lock", str(run), wait=True):  # held by a trainer whose call was killed just before
            pass
    if trained_seconds(run) < seconds * (1 - EQUAL):
        kind = ["--paradigm", model.paradigm, "--format", model.format, "--config", str(config)]
        where = ["--data", str(data), "--run", str(run), "--steps", str(STEPS), *extra]
        command = ["-m", "training", "train", *kind, *where]
        budget.python(f"train-{model.name}", command, enough)
    if trained_seconds(run) < seconds * (1 - EQUAL):
        raise OutOfTime


def trained_seconds(run: Path) -> float:
    """Seconds of training behind the newest checkpoint."""
    facts = snapshot_facts(run)
    return float(facts["train_seconds"]) if facts else 0.0


def snapshot_facts(run: Path) -> Facts | None:
    """Metadata of a run's newest snapshot; None where there is none."""
    from safetensors import safe_open

    from training.checkpoint import find_snapshot

    if not (run / "checkpoints").is_dir() or not any((run / "checkpoints").glob("step-*")):
        return None
    with safe_open(find_snapshot(run), framework="np") as file:
        facts: Facts = json.loads(file.metadata()["facts"])
    return facts


def logged_seconds(run: Path) -> float:
    """Seconds of training steps up to the last line of a run's log."""
    try:
        batch = json.loads((run / "config.json").read_bytes())["training"]["batch"]
        lines = read_log(run)
    except (FileNotFoundError, ValueError):  # missing, or being written
        return 0.0
    total, before = 0.0, 0
    for line in lines:
        if rate := line.get("clips_per_second"):
            total += (line["step"] - before) * batch / rate
            before = line["step"]
    return total


def progress(run: Path) -> Facts:
    """Steps, rates and memory of a run; empty before its first checkpoint."""
    facts = snapshot_facts(run)
    if facts is None or not facts["train_seconds"]:
        return {}
    steps, seconds = facts["step"], facts["train_seconds"]
    memory = [line["peak_memory_mb"] for line in read_log(run) if "peak_memory_mb" in line]
    waits = [line["wait_share"] for line in read_log(run) if line.get("wait_share") is not None]
    losses = [line["loss"] for line in read_log(run) if line.get("loss") is not None]
    tail = losses[-max(1, len(losses) // 10) :]
    return {
        "steps": steps,
        "train_seconds": round(seconds, 2),
        "steps_per_second": round(steps / seconds, 3),
        "clips_per_second": round(steps * facts["config"]["training"]["batch"] / seconds, 2),
        "peak_memory_mb": max(memory) if memory else None,
        "wait_share": round(sum(waits) / len(waits), 4) if waits else None,
        "last_loss": sum(tail) / len(tail) if tail else None,
    }

"""Stage 2: one model of each kind, trained for equally many seconds, and how fast its steps were."""

import json
import math
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.node.work import Call, Facts, OutOfTime
from data_specs.io.files import locked, write_bytes
from training.config import config_path
from training.log import LOG_FILE, read_log

STEPS = 10**9  # in all: time ends a run, not their number
EQUAL = 0.01  # a run this near to its seconds has had them
# The parts of a config that cost time and decide no weight. Nothing is written, heard or validated for a person who
# cannot look; a run that is killed loses at most the steps since its last checkpoint.
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
        """As tables and files call it."""
        return f"{self.paradigm}-{self.format}"


MODELS = (Model("edm", "encodec"), Model("ddpm", "encodec"), Model("discdpm", "disc"), Model("edm", "cqt"))


def write_config(name: str, device: str, folder: Path) -> Path:
    """A copy of a config, by name or path, whose logging costs no time. Returns its path; the name stays."""
    path = config_path(name)
    values = tomllib.loads(path.read_text(encoding="utf-8"))
    values["logging"] = {**values.get("logging", {}), **LOGGING[device]}
    copy = folder / f"{path.stem}.toml"
    write_bytes(copy, "".join(f"{key} = {toml(value)}\n" for key, value in values.items()).encode())
    return copy


def toml(value: Any) -> str:
    """A value in TOML: tables and lists on one line."""
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {toml(held)}" for key, held in value.items()) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(map(toml, value)) + "]"
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return json.dumps(value)  # strings, other numbers and truth are written alike


def train(call: Call, model: Model, config: Path, data: Path, seconds: float, extra: Sequence[str] = ()) -> None:
    """Train a model until it has had `seconds`; a run that stands goes on, one that has had them is left alone.

    Raises:
        OutOfTime: the call ended first; the next goes on.
    """
    run = call.work / "runs" / model.name
    log = run / LOG_FILE
    old = log.stat().st_ino if log.exists() else None

    def enough() -> bool:
        # A trainer begins by writing the log anew; until then it may hold steps that were lost with their process.
        return log.exists() and log.stat().st_ino != old and logged_seconds(run) >= seconds

    if had(run) < seconds * (1 - EQUAL):
        with locked(run / ".lock", str(run), wait=True):  # of a trainer whose call was killed a moment ago
            pass
    if had(run) < seconds * (1 - EQUAL):
        kind = ["--paradigm", model.paradigm, "--format", model.format, "--config", str(config)]
        where = ["--data", str(data), "--run", str(run), "--steps", str(STEPS), *extra]
        command = ["-m", "training", "train", *kind, *where]
        call.python(f"train-{model.name}", command, enough)
    if had(run) < seconds * (1 - EQUAL):
        raise OutOfTime


def had(run: Path) -> float:
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
    """Seconds of training up to the last line of a run's log, which are those of its steps alone."""
    try:
        batch = json.loads((run / "config.json").read_bytes())["training"]["batch"]
        lines = read_log(run)
    except (FileNotFoundError, ValueError):  # not there yet, or being written
        return 0.0
    total, before = 0.0, 0
    for line in lines:
        if rate := line.get("clips_per_second"):
            total += (line["step"] - before) * batch / rate
            before = line["step"]
    return total


def progress(run: Path) -> Facts:
    """How far a run is, and how fast it went; empty before its first checkpoint."""
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

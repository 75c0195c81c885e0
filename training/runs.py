"""Run folders: their names, how commands select them, and a table of them."""

import json
from collections.abc import Sequence
from pathlib import Path

from data_specs.errors import UserError
from data_specs.io.files import Json

RUNS = Path("runs")
DEFAULT_SPEC = "sample"
CONFIG, CHECKPOINTS = "config.json", "checkpoints"
TABLES = ("training", "machine", "logging")  # of a config


def run_folder(paradigm: str, format_name: str, config: str, spec: str | None = None) -> Path:
    """`runs/<paradigm>-<format>-<config>`, with the spec's name in front for specs other than `sample`.

    Args:
        config: name or path of the config.
        spec: name or path of the dataset's spec; None for `sample`.
    """
    name = Path(spec or DEFAULT_SPEC).stem
    return RUNS / f"{'' if name == DEFAULT_SPEC else f'{name}-'}{paradigm}-{format_name}-{Path(config).stem}"


def select_runs(
    runs: str | None, paradigm: str | None, format_name: str | None, config: str, spec: str | None = None
) -> list[Path]:
    """Paths of models: those named, else the run of a paradigm, else the shipped snapshot.

    Args:
        runs: run folders or snapshots, comma-separated.

    Raises:
        UserError: an unknown paradigm, or nothing is named and nothing is shipped.
    """
    if runs:
        return [Path(part.strip()) for part in runs.split(",") if part.strip()]
    if paradigm:
        from training.config import check_pair

        return [run_folder(paradigm, check_pair(paradigm, format_name), config, spec)]
    from training.model import shipped_model

    return [shipped_model()]


def run_names(paths: Sequence[Path]) -> list[str]:
    """A short name for each path: its last part, with as many parents as distinguish all of them.

    Raises:
        UserError: no path, or one of them twice.
    """
    resolved = [path.resolve() for path in paths]
    if not paths or len(set(resolved)) < len(resolved):
        raise UserError("RUN= names no run, or one of them twice; give run folders or snapshots, comma-separated")
    for depth in range(1, max(len(path.parts) for path in resolved) + 1):
        names = ["/".join(path.parts[-depth:]) for path in resolved]
        if len(set(names)) == len(names):
            break
    return names


def recorded_config(folder: Path) -> Json | None:
    """JSON form of the config of a run; None for a folder without one.

    Raises:
        UserError: it is damaged.
    """
    path = folder / CONFIG
    if not path.exists():
        if (folder / CHECKPOINTS).exists():
            raise UserError(f"{folder} has checkpoints but no {CONFIG}; move it aside or choose another RUN=")
        return None
    try:
        config = json.loads(path.read_bytes())
        if isinstance(config["data"]["digest"], str) and all(isinstance(config[key], dict) for key in TABLES):
            return dict(config)
    except (ValueError, KeyError, TypeError, AttributeError):
        pass
    raise UserError(f"{path} is damaged; move {folder} aside or choose another RUN=")


def runs_table(folder: Path = RUNS) -> str:
    """A line for each run below `folder`: its steps done and its last losses."""
    from training.log import read_log

    lines = []
    for path in sorted(folder.glob(f"*/{CONFIG}")):
        config, log = recorded_config(path.parent), read_log(path.parent)
        assert config is not None
        steps = config["training"]["steps"]
        done = max((line["step"] for line in log), default=0)
        state = "complete" if done >= steps else f"{done / steps:.0%}"
        last = {key: line[key] for line in log for key in ("loss", "valid_loss") if line.get(key) is not None}
        figures = ", ".join(f"{key} {value:.4f}" for key, value in last.items())
        lines.append(f"{path.parent}: step {done} of {steps} ({state}){', ' if figures else ''}{figures}")
    return "\n".join(lines) or f"there are no runs in {folder}; make train starts one"


def check_same_run(folder: Path, config: Json, data_digest: str) -> None:
    """Refuse a folder that holds a run of another config or of other data.

    Args:
        config: JSON form of the config.
        data_digest: of the content of the train split.

    Raises:
        UserError: names the key that differs, or that the folder is not a run.
    """
    from training.config import differing_key

    old = recorded_config(folder)
    if old is None:
        return
    old_digest = old.pop("data")["digest"]
    difference = differing_key({**old, "data_digest": old_digest}, {**config, "data_digest": data_digest})
    # promise: refused-name-key-nothing-5
    if difference:
        raise UserError(f"{folder} holds another run: {difference}; choose another RUN=, or give it the same config")

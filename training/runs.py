"""Run folders: names, selection by options, recorded configs, and a table of runs."""

import json
from collections.abc import Sequence
from pathlib import Path

from data_specs.errors import UserError
from data_specs.io.files import Json

RUNS = Path("runs")
DEFAULT_SPEC = "sample"
CONFIG, CHECKPOINTS = "config.json", "checkpoints"
TABLES = ("training", "machine", "logging")  # of a config
SNAPSHOTS = Path(__file__).parent / "snapshots"  # shipped with the project
SHIPPED = {
    "few-steps": SNAPSHOTS / "consistency-phaseless.safetensors",
    "edm": SNAPSHOTS / "edm-phaseless.safetensors",
}
DEFAULT_MODEL = next(iter(SHIPPED))


def shipped_model(name: str = DEFAULT_MODEL) -> Path:
    """Return the path of a snapshot that is shipped with the project, by its name in SHIPPED.

    Raises:
        UserError: the installation lacks the file.
    """
    path = SHIPPED[name]
    if path.is_file():
        return path
    raise UserError(
        f"{path} is missing; install the project again, or give RUN= or PARADIGM= of a run that you trained"
    )


def run_folder(paradigm: str, format_name: str, config: str, spec: str | None = None) -> Path:
    """Return the default folder of a run, runs/<paradigm>-<format>-<config>; it is not created.

    The name begins with that of the spec and a hyphen, unless the spec is `sample`.

    Args:
        paradigm: name of the paradigm.
        format_name: name of the format.
        config: name or path of the config.
        spec: name or path of the spec of the dataset; None for `sample`.
    """
    name = Path(spec or DEFAULT_SPEC).stem
    return RUNS / f"{'' if name == DEFAULT_SPEC else f'{name}-'}{paradigm}-{format_name}-{Path(config).stem}"


def select_runs(
    runs: str | None, paradigm: str | None, format_name: str | None, config: str, spec: str | None = None
) -> list[Path]:
    """Return paths of models: those in `runs`, else the default run folder of `paradigm`, else DEFAULT_MODEL.

    It is not checked whether the paths exist.

    Args:
        runs: run folders or snapshots, comma-separated; None or empty to select by `paradigm`.
        paradigm: name of the paradigm; None or empty for DEFAULT_MODEL.
        format_name: name of the format; None for the default of the paradigm.
        config, spec: config and spec of the run (see `run_folder`).

    Raises:
        UserError: the paradigm is unknown or does not support the format, or the file of DEFAULT_MODEL is missing.
    """
    if runs:
        return [Path(part.strip()) for part in runs.split(",") if part.strip()]
    if paradigm:
        from training.config import check_pair

        return [run_folder(paradigm, check_pair(paradigm, format_name), config, spec)]
    return [shipped_model()]


def run_names(paths: Sequence[Path]) -> list[str]:
    """Return a short name for each path: its last parts joined by `/`, the fewest by which all names differ.

    A shipped model has its name in SHIPPED.

    Raises:
        UserError: there is no path, or one occurs twice.
    """
    shipped = {path: Path(name) for name, path in SHIPPED.items()}
    paths = [shipped.get(path, path) for path in paths]
    resolved = [path.resolve() for path in paths]
    if not paths or len(set(resolved)) < len(resolved):
        raise UserError("RUN= must name one or more different runs; give run folders or snapshots, comma-separated")
    for depth in range(1, max(len(path.parts) for path in resolved) + 1):
        names = ["/".join(path.parts[-depth:]) for path in resolved]
        if len(set(names)) == len(names):
            break
    return names


def recorded_config(folder: Path) -> Json | None:
    """Return the content of config.json of a run; None for a folder without a run.

    Raises:
        UserError: the file is damaged, or missing beside checkpoints.
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
    """Return a text with one line for each run in `folder`: step of the last line of its log, total steps, last losses.

    Without runs, it is a sentence with the command that starts one.

    Raises:
        UserError: config.json or log.jsonl of a run is damaged.
    """
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
    return "\n".join(lines) or f"there are no runs in {folder}; start one with make train"


def check_same_run(folder: Path, config: Json, data_digest: str) -> None:
    """Raise an error if a run in `folder` has another config or other data; do nothing if there is no run.

    Args:
        folder: folder of the run.
        config: JSON form of the config.
        data_digest: digest of the train split.

    Raises:
        UserError: a key differs that must not change, or the recorded config is damaged.
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

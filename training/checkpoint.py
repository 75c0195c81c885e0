"""Checkpoints of a run: written by rename, each with a snapshot for sampling and the full state for resuming.

```
RUN/checkpoints/step-00000060/
  snapshot.safetensors   the averaged (EMA) weights; its metadata holds config, data and progress
  state.pt               weights, optimizer and counters; with the snapshot, enough to resume
  checkpoint.json        bytes and SHA-256 of both
```
Nothing is unpickled: safetensors holds no code and `torch.load` is called with `weights_only=True`.
"""

import json
import pickle
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from data_specs.errors import UserError
from data_specs.io.files import Json, atomic_write, file_sha256, write_json
from training.runs import SHIPPED, shipped_model

CHECKPOINTS = "checkpoints"  # folder in that of the run
MANIFEST, SNAPSHOT, STATE = "checkpoint.json", "snapshot.safetensors", "state.pt"
SNAPSHOT_VERSION = 1
AVERAGES = "ema"

State = dict[str, Any]  # tensors, numbers, strings, lists and dicts
Weights = dict[str, Tensor]  # by name


class Stateful(Protocol):
    """A part of a run that a checkpoint saves and restores."""

    def state_dict(self) -> State:
        """Return the state of the part."""

    def load_state_dict(self, state: State) -> Any:
        """Set the part to a state that `state_dict` returned."""


Parts = Mapping[str, Stateful]


@dataclass(frozen=True)
class Saved:
    """Content of a checkpoint, with tensors on the CPU.

    Attributes:
        state: state of each part of the run by its name, as from `states`.
        weights: averaged (EMA) weights by name.
    """

    state: State
    weights: Weights


def states(parts: Parts) -> State:
    """Return the `state_dict` of each part, by the name of the part."""
    return {name: part.state_dict() for name, part in parts.items()}


def restore(parts: Parts, saved: Saved) -> None:
    """Set each of `parts` to its state in `saved`; states of other parts are ignored.

    Raises:
        UserError: the checkpoint has no state of a part.
    """
    if missing := parts.keys() - saved.state.keys():
        raise UserError(
            f"the checkpoint has no state of {', '.join(sorted(missing))}: another version of the project wrote it; "
            f"resume with that version, or choose another RUN="
        )
    for name, part in parts.items():
        part.load_state_dict(saved.state[name])


def save(run: Path, step: int, state: State, weights: Weights, metadata: Json, keep: int) -> Path:
    """Write a checkpoint, delete all but the newest `keep` of the run, and return the folder of the new one.

    The folder gets its name when it is complete, so that a kill leaves no damaged checkpoint. Incomplete folders of
    earlier kills are deleted, and a checkpoint of the same step is replaced.

    Args:
        run: folder of the run, created if needed.
        step: number of steps done.
        state: state of all parts, from `states`.
        weights: averaged weights, for the snapshot.
        metadata: config, data and progress, for the snapshot.
        keep: number of checkpoints to keep.

    Raises:
        UserError, OSError: a file cannot be written.
    """
    folder = run / CHECKPOINTS
    folder.mkdir(parents=True, exist_ok=True)
    for leftover in folder.glob(".*"):  # left by a kill during a save or a removal
        shutil.rmtree(leftover)
    # promise: newest-whole-checkpoint-taken-2
    temporary, final = folder / f".step-{step:08d}", folder / f"step-{step:08d}"
    write_snapshot(temporary / SNAPSHOT, weights, metadata)
    with atomic_write(temporary / STATE) as file:
        try:
            torch.save(state, file)
        except RuntimeError as error:  # how torch reports a full disk
            raise OSError(f"{temporary / STATE} could not be written: {error}") from error
    files = {name: temporary / name for name in (SNAPSHOT, STATE)}
    content = {name: {"bytes": path.stat().st_size, "sha256": file_sha256(path)} for name, path in files.items()}
    write_json(temporary / MANIFEST, {"version": SNAPSHOT_VERSION, "step": step, "files": content})
    if final.exists():
        _remove(final)
    temporary.rename(final)
    for old in _folders(run)[keep:]:
        _remove(old)
    return final


def write_snapshot(path: Path, weights: Weights, metadata: Json) -> None:
    """Write weights, in their dtype, and metadata as one safetensors file, which appears complete or not at all."""
    from safetensors.torch import save as to_bytes

    header = {
        "format": "pvt-audio snapshot",
        "version": str(SNAPSHOT_VERSION),
        "facts": json.dumps(metadata, sort_keys=True),
    }
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()}
    with atomic_write(path) as file:
        file.write(to_bytes(tensors, header))


def read_snapshot(path: Path) -> tuple[Weights, Json]:
    """Return the weights by name, on the CPU, and the metadata of the snapshot file `path`.

    Raises:
        UserError: not a snapshot, damaged, or of an unknown version.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path} is not a readable snapshot ({error}); name a run folder or a snapshot") from error
    if header.get("format") != "pvt-audio snapshot" or header.get("version") != str(SNAPSHOT_VERSION):
        raise UserError(
            f"{path} is not a snapshot of this version; name a run folder or a snapshot that training wrote"
        )
    try:
        metadata = json.loads(header["facts"])
    except (KeyError, ValueError, RecursionError):
        raise UserError(f"{path} has damaged metadata; name another snapshot") from None
    return weights, metadata


def write_averages(run: Path, step: int, averages: Mapping[str, Weights]) -> None:
    """Write power-function averages as float16 to RUN/ema/step-<step>.safetensors, for `read_averages`.

    Args:
        run: folder of the run.
        step: number of steps done.
        averages: averaged weights by relative width, a decimal number as text such as "0.05".
    """
    from safetensors.torch import save as to_bytes

    tensors = {f"{std}/{name}": value.half().cpu() for std, one in averages.items() for name, value in one.items()}
    with atomic_write(run / AVERAGES / f"step-{step:08d}.safetensors") as file:
        file.write(to_bytes(tensors))


def read_averages(run: Path, last: int) -> list[tuple[int, float, Weights]]:
    """Return (step, relative width, averaged weights in float16) of all averages stored up to step `last`, by step.

    Raises:
        UserError: the run stored no averages up to that step.
    """
    from safetensors.torch import load_file

    found = []
    for path in sorted((run / AVERAGES).glob("step-*.safetensors")):
        step = int(path.stem.removeprefix("step-"))
        tensors = load_file(path) if step <= last else {}
        for std in dict.fromkeys(name.partition("/")[0] for name in tensors):
            own = {name.partition("/")[2]: value for name, value in tensors.items() if name.startswith(f"{std}/")}
            found.append((step, float(std), own))
    if not found:
        raise UserError(f"{run} has no averages to reconstruct from; train with training.ema_stds = [0.05, 0.1]")
    return found


def write_half(snapshot: Path, out: Path, replaced: Weights | None = None) -> Path:
    """Write a copy of a snapshot to `out` with weights as float16, in half the bytes of float32; return `out`.

    Loading converts them to float32. Rounding changes a weight by at most 2^-11 of its value, or by at most 2^-25 if it
    is below 2^-14. Integer tensors are copied unchanged.

    Args:
        snapshot: snapshot to copy.
        out: file to write.
        replaced: weights by name that replace those of the snapshot or are added to them; None for none.

    Raises:
        UserError: not a snapshot, or a weight that float16 cannot hold.
    """
    weights, metadata = read_snapshot(snapshot)
    weights = {**weights, **(replaced or {})}
    halves = {name: tensor.half() if tensor.is_floating_point() else tensor for name, tensor in weights.items()}
    for name, half in halves.items():
        if half.is_floating_point() and not torch.isfinite(half).all():
            raise UserError(f"{snapshot}: {name} exceeds the range of float16; keep the snapshot as it is")
    write_snapshot(out, halves, metadata)
    return out


def load_newest(run: Path) -> Saved | None:
    """Return the newest intact checkpoint of a run, None if the run has no checkpoint.

    Damaged checkpoints are skipped with a message on stderr.

    Raises:
        UserError: all checkpoints are damaged, or the newest intact one holds objects other than tensors and numbers.
    """
    folders = _folders(run)
    for folder in folders:
        fault = _fault(folder)
        # promise: newest-whole-checkpoint-taken
        if fault:
            print(f"{folder} is damaged ({fault}); trying the previous one", file=sys.stderr)
            continue
        try:
            # promise: nothing-runs
            state = torch.load(folder / STATE, map_location="cpu", weights_only=True)
        except (pickle.UnpicklingError, RuntimeError) as error:
            raise UserError(
                f"{folder / STATE} holds objects other than tensors and numbers, so it is not loaded; remove {folder} "
                f"to resume from the previous checkpoint"
            ) from error
        return Saved(state, read_snapshot(folder / SNAPSHOT)[0])
    if folders:
        raise UserError(f"no checkpoint in {run / CHECKPOINTS} is intact; move the folder {run} aside to start again")
    return None


def find_snapshot(path: Path) -> Path:
    """Return the path of the snapshot at `path`: a file itself, or the newest intact one of a run or checkpoint folder.

    A name in SHIPPED is that shipped model, unless there is a file or a run of that name. Size and SHA-256 are checked
    in a run folder only.

    Raises:
        UserError: there is no file or intact snapshot.
    """
    if path.is_file():
        return path
    if (path / SNAPSHOT).is_file():
        return path / SNAPSHOT
    for folder in _folders(path):
        if not _fault(folder, only=SNAPSHOT):
            return folder / SNAPSHOT
    if str(path) in SHIPPED and not (path / CHECKPOINTS).exists():
        return shipped_model(str(path))
    raise UserError(
        f"there is no snapshot in {path}; train first, or name a run folder, a snapshot file or one of "
        f"{', '.join(SHIPPED)} with RUN="
    )


def _folders(run: Path) -> list[Path]:
    """Return the folders of all checkpoints of a run, intact or not, newest first."""
    return sorted((run / CHECKPOINTS).glob("step-*"), reverse=True)


def _fault(folder: Path, only: str | None = None) -> str:
    """Return the reason why the checkpoint in `folder` is damaged, empty if size and SHA-256 of its files are right.

    `only` names the one file to check; None for both.
    """
    try:
        files = json.loads((folder / MANIFEST).read_bytes())["files"]
        for name in (SNAPSHOT, STATE) if only is None else (only,):
            if (folder / name).stat().st_size != files[name]["bytes"]:
                return f"{name} is truncated"
            if file_sha256(folder / name) != files[name]["sha256"]:
                return f"{name} was altered"
    except (OSError, ValueError, KeyError, TypeError) as error:
        return f"{type(error).__name__}: {error}"
    return ""


def _remove(folder: Path) -> None:
    """Rename the folder of a checkpoint, then delete it, so that a kill in between leaves none that looks intact."""
    hidden = folder.with_name(f".{folder.name}.old")
    folder.rename(hidden)
    shutil.rmtree(hidden)

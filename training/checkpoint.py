"""What a run leaves behind: checkpoints that appear whole or not at all, each with two artefacts.

```
RUN/checkpoints/step-00000060/
  snapshot.safetensors   the averaged (EMA) weights; its metadata holds config, data and progress: enough to sample
  state.pt               weights, optimizer and counters: with the snapshot, enough to continue
  checkpoint.json        bytes and SHA-256 of both
```
Nothing is ever unpickled: safetensors has no code in it and `torch.load` is called with `weights_only=True`.
"""

import json
import pickle
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from data_specs.errors import UserError
from data_specs.io.files import atomic_write, file_sha256, write_json

CHECKPOINTS = "checkpoints"
MANIFEST, SNAPSHOT, STATE = "checkpoint.json", "snapshot.safetensors", "state.pt"
SNAPSHOT_VERSION = 1


@dataclass(frozen=True)
class Saved:
    """A checkpoint as it was read: tensors on the CPU.

    Attributes:
        state: what `save` was given as `state`.
        weights: the averaged weights by name.
        facts: what `save` was given as `facts`.
    """

    state: dict[str, Any]
    weights: dict[str, Tensor]
    facts: dict[str, Any]


def save(
    run: Path, step: int, state: dict[str, Any], weights: dict[str, Tensor], facts: dict[str, Any], keep: int
) -> Path:
    """Write a checkpoint by rename, then remove all but the newest `keep`. Returns its folder.

    Args:
        run: folder of the run.
        step: steps done.
        state: weights, optimizer state and counters, for `torch.save`: tensors, numbers, strings, lists and dicts.
        weights: averaged weights by name, for the snapshot.
        facts: JSON value for the snapshot's metadata.
        keep: number of checkpoints to keep.
    """
    folder = run / CHECKPOINTS
    folder.mkdir(parents=True, exist_ok=True)
    for leftover in folder.glob(".*"):  # of a save or a removal that was killed
        shutil.rmtree(leftover)
    # promise: newest-whole-checkpoint-taken-2
    temporary, final = folder / f".step-{step:08d}", folder / f"step-{step:08d}"
    write_snapshot(temporary / SNAPSHOT, weights, facts)
    with atomic_write(temporary / STATE) as file:
        try:
            torch.save(state, file)
        except RuntimeError as error:  # how its writer reports that the file took no more bytes
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


def write_snapshot(path: Path, weights: dict[str, Tensor], facts: dict[str, Any]) -> None:
    """One safetensors file with everything that sampling needs, written atomically."""
    from safetensors.torch import save as to_bytes

    metadata = {
        "format": "pvt-audio snapshot",
        "version": str(SNAPSHOT_VERSION),
        "facts": json.dumps(facts, sort_keys=True),
    }
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()}
    with atomic_write(path) as file:
        file.write(to_bytes(tensors, metadata))


def read_snapshot(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Weights and facts of a snapshot.

    Raises:
        UserError: not a snapshot, damaged, or of an unknown version.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    except (SafetensorError, OSError) as error:
        raise UserError(
            f"{path} is not a snapshot that can be read ({error}); name a run folder or a snapshot"
        ) from error
    if metadata.get("format") != "pvt-audio snapshot" or metadata.get("version") != str(SNAPSHOT_VERSION):
        raise UserError(
            f"{path} is not a snapshot of this version; name a run folder or a snapshot that training wrote"
        )
    try:
        facts = json.loads(metadata["facts"])
    except (KeyError, ValueError, RecursionError):
        raise UserError(f"{path} has damaged metadata; name another snapshot") from None
    return weights, facts


def write_half(snapshot: Path, out: Path) -> Path:
    """Copy a snapshot with its weights as float16: half the bytes, for carrying and shipping. Returns `out`.

    Whoever loads it computes in float32 again; rounding moves a weight by at most 2^-11 of its size.

    Raises:
        UserError: not a snapshot, or a weight that float16 cannot hold.
    """
    weights, facts = read_snapshot(snapshot)
    halves = {name: tensor.half() if tensor.is_floating_point() else tensor for name, tensor in weights.items()}
    for name, half in halves.items():
        if half.is_floating_point() and not torch.isfinite(half).all():
            raise UserError(f"{snapshot}: {name} holds values that float16 cannot; keep the snapshot as it is")
    write_snapshot(out, halves, facts)
    return out


def load_newest(run: Path) -> Saved | None:
    """The newest checkpoint that is whole; None where there is none. Damaged ones are named on stderr and passed over.

    Raises:
        UserError: there are checkpoints and none is whole.
    """
    folders = _folders(run)
    for folder in folders:
        fault = _fault(folder)
        # promise: newest-whole-checkpoint-taken
        if fault:
            print(f"{folder} is damaged ({fault}); trying the one before it", file=sys.stderr)
            continue
        try:
            # promise: nothing-runs
            state = torch.load(folder / STATE, map_location="cpu", weights_only=True)
        except (pickle.UnpicklingError, RuntimeError) as error:
            raise UserError(
                f"{folder / STATE} holds more than tensors and numbers, so it is not loaded; remove {folder} to go on "
                f"from the checkpoint before it"
            ) from error
        weights, facts = read_snapshot(folder / SNAPSHOT)
        return Saved(state, weights, facts)
    if folders:
        raise UserError(f"no checkpoint in {run / CHECKPOINTS} is whole; move the folder {run} aside to start anew")
    return None


def find_snapshot(path: Path) -> Path:
    """The snapshot meant by `path`: itself when it is a file, else the newest whole one of a run or checkpoint folder.

    Raises:
        UserError: there is none.
    """
    if path.is_file():
        return path
    if (path / SNAPSHOT).is_file():
        return path / SNAPSHOT
    for folder in _folders(path):
        if not _fault(folder, only=SNAPSHOT):
            return folder / SNAPSHOT
    raise UserError(f"there is no snapshot in {path}; train first, or name a run folder or a snapshot file")


def _folders(run: Path) -> list[Path]:
    """Checkpoint folders, newest first."""
    return sorted((run / CHECKPOINTS).glob("step-*"), reverse=True)


def _fault(folder: Path, only: str | None = None) -> str:
    """Why a checkpoint is not whole; empty when it is."""
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
    """Delete a checkpoint; it loses its name first, so that a kill in between leaves nothing that looks whole."""
    hidden = folder.with_name(f".{folder.name}.old")
    folder.rename(hidden)
    shutil.rmtree(hidden)

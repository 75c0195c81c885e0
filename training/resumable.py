"""Resumable exports: a checkpoint as one file, from which another machine resumes the run.

Weights and averages are stored as float16. The state of the optimizer is stored as bfloat16, since squared gradients
exceed the range of float16. Only float32 tensors with at least one axis are converted.
"""

import pickle
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from data_specs.errors import UserError
from data_specs.io.files import Json, atomic_write, write_json
from training import checkpoint
from training.runs import CONFIG

KIND, VERSION = "pvt-audio resumable export", 1


def export_resumable(run: Path, out: Path) -> Path:
    """Write the newest intact checkpoint of a run folder to the file `out`; return `out`.

    Raises:
        UserError: there is no intact checkpoint, or a weight exceeds the range of float16.
    """
    saved = checkpoint.load_newest(run)
    if saved is None:
        raise UserError(f"RUN= must be the folder of a run with checkpoints, got {run}")
    _, metadata = checkpoint.read_snapshot(checkpoint.find_snapshot(run))
    half, wide = partial(_to_half, dtype=torch.float16), partial(_to_half, dtype=torch.bfloat16)
    state = {name: _map(part, wide if name == "optimizer" else half) for name, part in saved.state.items()}
    content = {
        "kind": KIND,
        "version": VERSION,
        "metadata": metadata,
        "state": state,
        "weights": _map(saved.weights, half),
    }
    with atomic_write(out) as file:
        torch.save(content, file)
    return out


def import_resumable(file: Path, run: Path, data: Json, keep: int) -> None:
    """Write the checkpoint of an export, and its config.json, to the run folder `run`, created if needed.

    Args:
        file: file that `export_resumable` wrote.
        run: folder of the new run.
        data: metadata of the present dataset as JSON, recorded in config.json of the run. Plan and codec must be those
            of the export; its stored arrays may differ in their last bits, as on another kind of machine.
        keep: number of checkpoints to keep.

    Raises:
        UserError: another kind of file, or a dataset of another plan or codec.
    """
    try:
        content = torch.load(file, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, OSError, EOFError) as error:
        raise UserError(f"RESUME= must be a file of `pvt export --to resumable`, got {file} ({error})") from error
    if not isinstance(content, dict) or content.get("kind") != KIND or content.get("version") != VERSION:
        raise UserError(f"RESUME= must be a file of `pvt export --to resumable` in this version, got {file}")
    metadata = content["metadata"]
    for key in ("plan_digest", "codec_digest"):
        if metadata["data"][key] != data[key]:
            raise UserError(
                f"RESUME={file} must be resumed on data with {key} {metadata['data'][key][:12]}, got {data[key][:12]}; "
                f"name the same dataset with DATA=, or start a new run with INIT="
            )
    state, weights = _map(content["state"], _to_full), _map(content["weights"], _to_full)
    checkpoint.save(run, int(metadata["step"]), state, weights, metadata, keep)
    write_json(run / CONFIG, {**metadata["config"], "data": data})


def _to_half(value: Tensor, dtype: torch.dtype) -> Tensor:
    if value.dtype != torch.float32 or value.ndim == 0:
        return value
    half = value.to(dtype)
    if not torch.equal(half.isfinite(), value.isfinite()):
        raise UserError("a weight of the run exceeds the range of float16; move the run folder itself instead")
    return half


def _to_full(value: Tensor) -> Tensor:
    return value.float() if value.dtype in (torch.float16, torch.bfloat16) else value


def _map(value: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """Return `value` with `change` applied to every tensor in its nested dicts, lists and tuples."""
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, dict):
        return {key: _map(one, change) for key, one in value.items()}
    return type(value)(_map(one, change) for one in value) if isinstance(value, (list, tuple)) else value

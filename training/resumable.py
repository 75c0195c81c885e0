"""Resumable exports: a checkpoint as one file of half-precision numbers, with which another machine continues the run.

Weights and averages are stored as float16, the optimizer's moments as bfloat16, whose range squared gradients need.
Rounding the weights changes them by less than one step of the optimizer does.
"""

import pickle
from collections.abc import Callable
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
    """Write the newest intact checkpoint of a run folder to `out`; returns `out`.

    Raises:
        UserError: there is no checkpoint, or float16 cannot hold a weight.
    """
    saved = checkpoint.load_newest(run)
    if saved is None:
        raise UserError(f"RUN= must be the folder of a run with checkpoints, got {run}")
    _, metadata = checkpoint.read_snapshot(checkpoint.find_snapshot(run))
    state = {name: _map(part, _to_half(name == "optimizer")) for name, part in saved.state.items()}
    content = {
        "kind": KIND,
        "version": VERSION,
        "metadata": metadata,
        "state": state,
        "weights": _map(saved.weights, _to_half(False)),
    }
    with atomic_write(out) as file:
        torch.save(content, file)
    return out


def import_resumable(file: Path, run: Path, data: Json, keep: int) -> None:
    """Create the run folder `run` with the checkpoint of an export.

    Args:
        file: written by `export_resumable`.
        data: JSON form of the metadata of the dataset at hand, recorded in the new run. Plan and codec must be those of
            the export; arrays rebuilt on another kind of machine may differ in their last bits.
        keep: number of checkpoints to keep.

    Raises:
        UserError: not such a file, or other data.
    """
    try:
        content = torch.load(file, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, OSError, EOFError) as error:
        raise UserError(f"RESUME= must be a file that export wrote with TO=resumable, got {file} ({error})") from error
    if not isinstance(content, dict) or content.get("kind") != KIND or content.get("version") != VERSION:
        raise UserError(f"RESUME= must be a file that export wrote with TO=resumable in this version, got {file}")
    metadata = content["metadata"]
    for key in ("plan_digest", "codec_digest"):
        if metadata["data"][key] != data[key]:
            raise UserError(
                f"RESUME={file} was trained on data with {key} {metadata['data'][key][:12]}, got {data[key][:12]}; "
                f"name the same dataset with DATA=, or start a new run with INIT="
            )
    state, weights = _map(content["state"], _to_full), _map(content["weights"], _to_full)
    checkpoint.save(run, int(metadata["step"]), state, weights, metadata, keep)
    write_json(run / CONFIG, {**metadata["config"], "data": data})


def _to_half(wide_range: bool) -> Callable[[Tensor], Tensor]:
    def convert(value: Tensor) -> Tensor:
        if value.dtype != torch.float32 or value.ndim == 0:
            return value
        half = value.to(torch.bfloat16 if wide_range else torch.float16)
        if not torch.equal(half.isfinite(), value.isfinite()):
            raise UserError("a weight of the run exceeds the range of float16; move the run folder itself instead")
        return half

    return convert


def _to_full(value: Tensor) -> Tensor:
    return value.float() if value.dtype in (torch.float16, torch.bfloat16) else value


def _map(value: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """Apply `change` to every tensor of nested dicts and lists."""
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, dict):
        return {key: _map(one, change) for key, one in value.items()}
    return type(value)(_map(one, change) for one in value) if isinstance(value, (list, tuple)) else value

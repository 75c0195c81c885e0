"""Weights files of codecs made here: safetensors with metadata that name the kind. Shipped ones are in this folder."""

import json
import struct
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from data_specs.errors import UserError
from data_specs.io.files import write_bytes

Metadata = dict[str, Any]
FOLDER = Path(__file__).parent
KEY = "pvt-audio codec"  # the only metadata key: safetensors writes several in no fixed order
VERSION = 1


def codec_kind(path: Path) -> str:
    """Return the kind of codec of a weights file: as its metadata say, or encodec_24khz if it is not safetensors.

    Raises:
        UserError: safetensors that is unreadable, of something else, or of another version.
        OSError: the file cannot be opened.
    """
    if not _is_safetensors(path):
        return "encodec_24khz"
    return str(_read(path, with_tensors=False)[1]["codec"])


def read_weights(path: Path) -> tuple[dict[str, Tensor], Metadata]:
    """Return the tensors by name and the metadata of one of our weights files.

    Raises:
        UserError: unreadable, not a codec of this project, or of another version.
    """
    return _read(path, with_tensors=True)


def write_weights(path: Path, codec: str, tensors: dict[str, Tensor], metadata: Metadata) -> None:
    """Write the weights file of a codec of kind `codec` atomically; the same content gives the same bytes.

    The version and the kind are added to the metadata.
    """
    described = json.dumps({**metadata, "version": VERSION, "codec": codec}, sort_keys=True)
    write_bytes(path, save({name: tensor.contiguous() for name, tensor in tensors.items()}, {KEY: described}))


def _read(path: Path, with_tensors: bool) -> tuple[dict[str, Tensor], Metadata]:
    try:
        with safe_open(path, framework="pt") as file:
            held = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()} if with_tensors else {}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path} cannot be read as safetensors ({error}); fetch or fit the codec again") from error
    try:
        metadata = json.loads(held[KEY])
        version, _ = metadata["version"], metadata["codec"]
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise UserError(
            f"{path} is a safetensors file but no codec of this project; fit one with make codec"
        ) from error
    if version != VERSION:
        raise UserError(f"{path} has codec version {version}, this project reads {VERSION}; update the project")
    return tensors, metadata


def _is_safetensors(path: Path) -> bool:
    """Return whether the file begins like safetensors: the length of a JSON header, then the header's brace."""
    with open(path, "rb") as file:
        head = file.read(9)
    return len(head) == 9 and head[8:] == b"{" and struct.unpack("<Q", head[:8])[0] <= path.stat().st_size

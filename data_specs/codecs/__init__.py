"""Codecs by name, or by the file of their weights. A codec is one file and one line here."""

from importlib import import_module
from pathlib import Path

from data_specs.codecs.base import Codec
from data_specs.codecs.weights import codec_kind
from data_specs.errors import UserError

__all__ = ["Codec", "load_codec", "missing_weights"]

# Module and class, imported when asked for: torch and the codecs' packages take seconds.
CODECS: dict[str, tuple[str, str]] = {
    "pvt": ("data_specs.codecs.pvt", "PvtCodec"),
    "phaseless": ("data_specs.codecs.phaseless", "PhaselessCodec"),
    "encodec_24khz": ("data_specs.codecs.encodec_24khz", "Encodec24kHz"),
}
# Kinds without weights of their own: they are given as a file alone.
BY_FILE: dict[str, tuple[str, str]] = {"learned": ("data_specs.codecs.learned", "LearnedCodec")}


def load_codec(name_or_path: str) -> Codec:
    """The codec called so, or the one whose weights lie in that file: ours (safetensors), else EnCodec's.

    Raises:
        UserError: neither a name nor a file, weights that are not a codec's, or a download that fails.
    """
    if name_or_path in CODECS:
        return _codec_class(name_or_path).own()
    path = Path(name_or_path)
    kind = _kind(path)
    if kind not in CODECS | BY_FILE:
        raise UserError(f"{path} holds a codec of kind {kind}, which this version does not know; update the project")
    return _codec_class(kind).load(path)


def missing_weights(name_or_path: str) -> str:
    """Why `load_codec` would have to download first or could not succeed, with the remedy; empty when all is there."""
    try:
        if name_or_path in CODECS:
            return _codec_class(name_or_path).missing()
        _kind(Path(name_or_path))
    except UserError as error:
        return str(error)
    return ""


def _codec_class(name: str) -> type[Codec]:
    module, class_name = (CODECS | BY_FILE)[name]
    found: type[Codec] = getattr(import_module(module), class_name)
    return found


def _kind(path: Path) -> str:
    if not path.is_file():
        raise UserError(f"CODEC={path} is neither one of {', '.join(CODECS)} nor a file; check the name or the path")
    return codec_kind(path)

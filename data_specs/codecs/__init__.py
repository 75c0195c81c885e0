"""Codecs by name, or by their weights file. A codec is one file and one entry in `CODECS`."""

from pathlib import Path

from data_specs.codecs.base import Codec
from data_specs.codecs.weights import codec_kind
from data_specs.errors import UserError
from data_specs.registry import lookup

__all__ = ["Codec", "load_codec", "missing_weights"]

CODECS = {
    "pvt": "data_specs.codecs.pvt:PvtCodec",
    "phaseless": "data_specs.codecs.phaseless:PhaselessCodec",
    "encodec_24khz": "data_specs.codecs.encodec_24khz:Encodec24kHz",
}
BY_FILE = {"learned": "data_specs.codecs.learned:LearnedCodec"}  # kinds that are loaded from a file only


def load_codec(name_or_path: str) -> Codec:
    """Return a codec by name with its own weights, or the codec of a weights file: ours (safetensors) or EnCodec's.

    The weights of encodec_24khz are downloaded at the first use.

    Raises:
        UserError: neither a name nor a file, not the weights of a codec, a missing package or a failed download.
    """
    codec: Codec
    if name_or_path in CODECS:
        codec = lookup(CODECS, name_or_path, "CODEC=").pretrained()
    else:
        path = Path(name_or_path)
        codec = lookup(CODECS | BY_FILE, _kind(path), f"the kind of codec in {path}").load(path)
    return codec


def missing_weights(name_or_path: str) -> str:
    """Return why `load_codec` needs a download or would fail, with the remedy; empty if all is present.

    Nothing is downloaded. Of a weights file only the kind is read, so that damaged tensors are not found.
    """
    try:
        if name_or_path in CODECS:
            missing: str = lookup(CODECS, name_or_path, "CODEC=").missing()
            return missing
        _kind(Path(name_or_path))
    except UserError as error:
        return str(error)
    return ""


def _kind(path: Path) -> str:
    if not path.is_file():
        raise UserError(f"CODEC= must be one of {', '.join(CODECS)} or a weights file; got {str(path)!r:.200}")
    return codec_kind(path)

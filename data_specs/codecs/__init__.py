"""Codecs by name, or by the file of their weights. A codec is one file and one line here."""

from collections.abc import Callable
from pathlib import Path

from data_specs.codecs.base import Codec
from data_specs.codecs.weights import codec_kind
from data_specs.errors import UserError

__all__ = ["Codec", "load_codec"]


def _pvt(weights: Path | None) -> Codec:
    from data_specs.codecs.pvt import PvtCodec

    return PvtCodec.load(weights) if weights else PvtCodec.shipped()


def _encodec_24khz(weights: Path | None) -> Codec:
    from data_specs.codecs.encodec_24khz import Encodec24kHz

    return Encodec24kHz.load(weights) if weights else Encodec24kHz.published()


# Each takes a weights file, or None for the codec's own.
CODECS: dict[str, Callable[[Path | None], Codec]] = {"pvt": _pvt, "encodec_24khz": _encodec_24khz}


def load_codec(name_or_path: str) -> Codec:
    """The codec called so, or the one whose weights lie in that file: ours (safetensors), else EnCodec's.

    Raises:
        UserError: neither a name nor a file, weights that are not a codec's, or a download that fails.
    """
    if name_or_path in CODECS:
        return CODECS[name_or_path](None)
    path = Path(name_or_path)
    if not path.is_file():
        raise UserError(f"CODEC={name_or_path} is neither one of {', '.join(CODECS)} nor a file; check name or path")
    kind = codec_kind(path)
    if kind not in CODECS:
        raise UserError(f"{path} holds a codec of kind {kind}, which this version does not know; update the project")
    return CODECS[kind](path)

"""Codecs by name. A codec is one file and one line here."""

from collections.abc import Callable

from data_specs.codecs.base import Codec

__all__ = ["Codec", "load_codec"]


def _pvt() -> Codec:
    from data_specs.codecs.pvt import PvtCodec

    return PvtCodec.shipped()


def _encodec_24khz() -> Codec:
    from data_specs.codecs.encodec_24khz import Encodec24kHz

    return Encodec24kHz.load()


CODECS: dict[str, Callable[[], Codec]] = {"pvt": _pvt, "encodec_24khz": _encodec_24khz}

"""Records of TFRecord files, each a `tf.train.Example`, written and read without TensorFlow.

A record is framed as: length (uint64), masked CRC32C of the length (uint32), payload, masked CRC32C of the payload
(uint32), all little-endian. The payload is an Example in TensorFlow's deterministic serialization: features sorted by
name, each a bytes_list of one value. All records of a dataset have features of the same sizes, so the length of a
record and the offset of each array are constants (`RecordLayout`): record i of a shard starts at byte i * layout.size,
and no index file is needed.
"""

import struct
from collections.abc import Mapping
from dataclasses import dataclass

import google_crc32c
import numpy as np

from data_specs.errors import UserError

HEADER = struct.Struct("<QI")
FOOTER = struct.Struct("<I")
LENGTH = struct.Struct("<Q")
LARGEST_RECORD = 2**28  # bytes; a hundred times those of the largest format
REBUILD = "the file is damaged: delete it and run the same make dataset again"
# promise: records-byte-byte-tensorflow
MASK_DELTA = 0xA282EAD8  # TFRecord masks CRCs, since a CRC over data that contains CRCs is weak

_LEN = 2  # protobuf wire type of length-delimited fields, the only one these messages use
_TAG_1 = bytes([1 << 3 | _LEN])  # field 1: Example.features, Features.feature, entry key, Feature.bytes_list, value
_TAG_2 = bytes([2 << 3 | _LEN])  # field 2: entry value


class RecordError(UserError):
    """A shard, or a record of it, is truncated, altered or not of this project."""


def masked_crc(data: np.ndarray | bytes) -> int:
    """Return the masked CRC32C that TFRecord stores, of bytes or of a contiguous uint8 array, without a copy."""
    crc: int = google_crc32c.value(data)
    return ((crc >> 15 | crc << 17) + MASK_DELTA) & 0xFFFFFFFF


def encode_example(features: Mapping[str, bytes]) -> bytes:
    """Return a serialized tf.train.Example with one bytes value per feature, in the order of `_order`."""
    return _delimited(_TAG_1, b"".join(_entry(name, features[name]) for name in sorted(features, key=_order)))


def frame(payload: bytes) -> bytes:
    """Return the record of a payload: its length, the CRC of the length, the payload and its CRC."""
    length = LENGTH.pack(len(payload))
    return b"".join((length, FOOTER.pack(masked_crc(length)), payload, FOOTER.pack(masked_crc(payload))))


@dataclass(frozen=True)
class RecordLayout:
    """Byte offsets in a framed record whose features have the given sizes.

    Attributes:
        sizes: bytes of each feature's value.
        offsets: first byte of each value, counted from the record's start.
        size: bytes of the whole framed record.
        payload: slice of the record that its CRC covers.
        template: uint8 [size], a record of zeros: all bytes outside values and payload CRC are constant.
        constant: indices of the bytes that are equal in all records, int64: header and the Example's own bytes.
    """

    sizes: dict[str, int]
    offsets: dict[str, int]
    size: int
    payload: slice
    template: np.ndarray
    constant: np.ndarray

    @classmethod
    def of(cls, sizes: Mapping[str, int]) -> "RecordLayout":
        """Return the layout of records with one value of `sizes[name]` bytes for each feature `name`."""
        record = frame(encode_example({name: bytes(size) for name, size in sizes.items()}))
        offsets, end = {}, len(record) - FOOTER.size
        # The value is the last part of its entry, so offsets are found from the end.
        for name in sorted(sizes, key=_order, reverse=True):
            offsets[name] = end - sizes[name]
            end -= len(_entry(name, bytes(sizes[name])))
        payload = slice(HEADER.size, len(record) - FOOTER.size)
        varies = np.zeros(len(record), dtype=bool)
        varies[payload.stop :] = True
        for name, offset in offsets.items():
            varies[offset : offset + sizes[name]] = True
        template = np.frombuffer(record, np.uint8)
        return cls(dict(sizes), offsets, len(record), payload, template, np.flatnonzero(~varies))

    def check(self, record: np.ndarray, where: str, crc: bool = True) -> None:
        """Raise RecordError unless `record`, uint8 [size], has this layout and, with `crc`, the CRC32C that it stores.

        `where` names the record in the message.
        """
        # promise: only-recorderror-comes-out
        if record[self.constant].tobytes() != self.template[self.constant].tobytes():
            raise RecordError(f"{where} does not have the layout of shapes.txt; {REBUILD}")
        # promise: records-byte-byte-tensorflow-3
        if crc and masked_crc(record[self.payload]) != record[self.payload.stop :].view("<u4")[0]:
            raise RecordError(f"{where} fails its CRC32C; {REBUILD}")

    def record(self, values: Mapping[str, np.ndarray]) -> np.ndarray:
        """Return the framed record of arrays, uint8 [size]; equals `frame(encode_example(...))` of their bytes.

        Bytes are stored as they are in memory in C order: the caller gives little-endian arrays.

        Raises:
            ValueError: an array is missing, is not a feature, or has another size in bytes.
        """
        if {name: value.nbytes for name, value in values.items()} != self.sizes:
            raise ValueError(f"a record of {self.sizes} bytes cannot hold other arrays")
        record = self.template.copy()
        for name, place in self.values(record).items():
            place[:] = np.ascontiguousarray(values[name]).reshape(-1).view(np.uint8)
        record[self.payload.stop :].view("<u4")[0] = masked_crc(record[self.payload])
        return record

    def values(self, record: np.ndarray) -> dict[str, np.ndarray]:
        """Return views of the bytes of each feature, uint8 [..., sizes[name]], in records [..., size]."""
        return {name: record[..., start : start + self.sizes[name]] for name, start in self.offsets.items()}


def _order(name: str) -> bytes:
    """Return the sort key of protobuf's deterministic mode: names by their bytes, but "ab" after "abc"."""
    # promise: records-byte-byte-tensorflow-2
    return name.encode() + b"\xff"


def _entry(name: str, value: bytes) -> bytes:
    """Return the bytes of one entry of the Features map; they end with the bytes of `value`."""
    feature = _delimited(_TAG_1, _delimited(_TAG_1, value))
    return _delimited(_TAG_1, _delimited(_TAG_1, name.encode()) + _delimited(_TAG_2, feature))


def _delimited(tag: bytes, content: bytes) -> bytes:
    return b"".join((tag, _varint(len(content)), content))


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)

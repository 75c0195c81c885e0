"""Read float32 tensors of a TensorFlow checkpoint (format of TensorFlow's tensor_bundle) without TensorFlow.

The index is a LevelDB table without compression: blocks of sorted entries with shared key prefixes, and a footer that
holds offset and size of the index block. The value of an entry is a `BundleEntryProto`.
"""

import struct
from collections.abc import Iterator
from typing import Any

import numpy as np

from data_specs.arrays import Float32

MAGIC = 0xDB4775248B80FB57  # of a LevelDB table, the last eight bytes
FOOTER = 48  # bytes
FLOAT32 = 1  # DT_FLOAT
VARINT, BYTES, FIXED32 = 0, 2, 5  # wire types of protocol buffers


def read_checkpoint(index: bytes, data: bytes) -> dict[str, Float32]:
    """Return the float32 tensors by name of a checkpoint with one data file; tensors of other types are left out.

    Args:
        index: content of the `.index` file.
        data: content of the `.data-00000-of-00001` file.

    Raises:
        ValueError: not a checkpoint of this format, or truncated.
    """
    if len(index) < FOOTER or struct.unpack("<Q", index[-8:])[0] != MAGIC:
        raise ValueError("not a TensorFlow checkpoint index")
    try:
        return dict(_tensors(index, data))
    except (IndexError, KeyError, struct.error) as error:
        raise ValueError("a damaged TensorFlow checkpoint") from error


def _tensors(index: bytes, data: bytes) -> Iterator[tuple[str, Float32]]:
    place = len(index) - FOOTER
    for _ in range(2):  # the metaindex block, unused
        _, place = _varint(index, place)
    offset, place = _varint(index, place)
    size, _ = _varint(index, place)
    for _, handle in _block(index, offset, size):
        start, after = _varint(handle, 0)
        length, _ = _varint(handle, after)
        for name, entry in _block(index, start, length):
            fields = dict(_fields(entry)) if name else {}
            if fields.get(1) != FLOAT32:  # the header, or another type
                continue
            shape = [dict(_fields(dim)).get(1, 0) for key, dim in _fields(fields[2]) if key == 2]
            begin, count = fields.get(4, 0), fields[5]
            values = np.frombuffer(data[begin : begin + count], "<f4")
            if values.nbytes != count:
                raise ValueError("a truncated TensorFlow checkpoint")
            yield name.decode(), values.reshape(shape)


def _block(table: bytes, offset: int, size: int) -> Iterator[tuple[bytes, bytes]]:
    """Yield key and value of each entry of the block of `size` bytes at byte `offset` of a table.

    Raises:
        ValueError: the block is compressed.
    """
    block = table[offset : offset + size]
    if table[offset + size] != 0:
        raise ValueError("a compressed TensorFlow checkpoint index")
    (restarts,) = struct.unpack("<I", block[-4:])
    end, place, key = len(block) - 4 * (restarts + 1), 0, b""
    while place < end:
        shared, place = _varint(block, place)
        own, place = _varint(block, place)
        length, place = _varint(block, place)
        key = key[:shared] + block[place : place + own]
        yield key, block[place + own : place + own + length]
        place += own + length


def _fields(message: bytes) -> Iterator[tuple[int, Any]]:
    """Yield number and value of the fields of a protocol buffer message, as integers or bytes.

    Fields of four bytes are left out.

    Raises:
        ValueError: a field of another wire type.
    """
    place = 0
    while place < len(message):
        tag, place = _varint(message, place)
        number, kind = tag >> 3, tag & 7
        if kind == VARINT:
            value, place = _varint(message, place)
            yield number, value
        elif kind == BYTES:
            length, place = _varint(message, place)
            yield number, message[place : place + length]
            place += length
        elif kind == FIXED32:
            place += 4
        else:
            raise ValueError(f"wire type {kind} in a TensorFlow checkpoint index")


def _varint(data: bytes, place: int) -> tuple[int, int]:
    """Return the variable-length integer (seven bits a byte) at byte `place` of `data`, and the place after it."""
    value = shift = 0
    while True:
        byte = data[place]
        value |= (byte & 127) << shift
        place, shift = place + 1, shift + 7
        if byte < 128:
            return value, place

"""Members of a tar archive, streamed once and never written to disk.

The standard library's tarfile keeps every member in memory and reads extended headers of any size; here headers are
bounded, so that an archive of any length, made by anyone, is read in constant memory. Single header blocks are still
decoded by tarfile. Formats: V7, ustar, pax and GNU; compressed by gzip or not at all.
"""

import gzip
import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

from data_specs.errors import UserError

_BLOCK = 512
_LARGEST_HEADER = 1 << 20  # bytes of a pax header or a GNU long name
_STEP = 1 << 20
# gzip packs zeros at 1000 to 1, MIDI files and their padding at 3 to 30.
_LARGEST_RATIO, _FREE_BYTES = 300, 1 << 28
_PAX, _PAX_GLOBAL = (tarfile.XHDTYPE, tarfile.SOLARIS_XHDTYPE), tarfile.XGLTYPE
_LINKS = (tarfile.LNKTYPE, tarfile.SYMTYPE)
_SPECIAL = (tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE)


class Member(NamedTuple):
    """A file of the archive. `reason` says why its content was not taken; empty if it was."""

    name: str  # bytes that are not UTF-8 as surrogates, as os.fsdecode gives them
    content: bytes
    reason: str


class _Stream:
    """Reads the archive's uncompressed bytes and turns every way in which they may fail into one sentence."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.position = 0
        self._file: BinaryIO = open(path, "rb")  # noqa: SIM115  (closed by close)
        magic = self._file.read(2)
        self._file.seek(0)
        self._data: BinaryIO | gzip.GzipFile = gzip.GzipFile(fileobj=self._file) if magic == b"\x1f\x8b" else self._file

    def close(self) -> None:
        self._file.close()

    def read(self, size: int) -> bytes:
        """Exactly `size` bytes."""
        data = self._read(size)
        if len(data) < size:
            raise self._fault(f"it ends after {self.position} bytes, within a file")
        return data

    def read_block(self) -> bytes:
        """The next header block; empty at the end of the file."""
        data = self._read(_BLOCK)
        if len(data) not in (0, _BLOCK):
            raise self._fault(f"it ends after {self.position} bytes, within a header")
        return data

    def skip(self, size: int) -> None:
        """Pass over `size` bytes."""
        while size:
            size -= len(self.read(min(size, _STEP)))

    def drain(self) -> None:
        """Read to the end, to gzip's checksum; only zeros may be left."""
        while data := self._read(_STEP):
            if data.strip(b"\x00"):
                raise self._fault("more data follow its end mark")

    def fault(self, what: str) -> UserError:
        """The error to raise for damage at the current position."""
        return self._fault(f"{what} at byte {self.position}")

    def _read(self, size: int) -> bytes:
        parts = []
        try:
            while size and (part := self._data.read(min(size, _STEP))):
                parts.append(part)
                size -= len(part)
                self.position += len(part)
                if self.position > _FREE_BYTES + _LARGEST_RATIO * self._file.tell():
                    raise self._fault(f"it unpacks to more than {_LARGEST_RATIO} times its size")
        except (OSError, EOFError, zlib.error) as error:
            raise self._fault(f"{error} after {self.position} unpacked bytes") from error
        return b"".join(parts)

    def _fault(self, what: str) -> UserError:
        return UserError(f"the archive {self.path} is damaged or cut short ({what}); fetch or pack it again")


def is_archive(path: Path) -> bool:
    """Whether a file is a tar archive, gzipped or not, by its first block."""
    stream = _Stream(path)
    try:
        block = stream.read(_BLOCK)
        if block.strip(b"\x00"):  # else it is an end mark: an empty archive
            tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
    except (UserError, tarfile.HeaderError):
        return False
    finally:
        stream.close()
    return True


def read_members(path: Path, largest: int) -> Iterator[Member]:
    """The files of a tar or tar.gz in their order; directories are passed over.

    Not taken, with a reason: files above `largest` bytes, names that are absolute or hold `..`, links, devices.

    Raises:
        UserError: the archive is damaged, cut short, sparse, or unpacks beyond measure.
    """
    stream = _Stream(path)
    try:
        yield from _members(stream, largest)
    finally:
        stream.close()


def _members(stream: _Stream, largest: int) -> Iterator[Member]:
    everywhere: dict[str, str] = {}  # pax values for all members that follow
    here: dict[str, str] = {}  # pax values and GNU names for the next one
    while block := stream.read_block():
        if not block.strip(b"\x00"):
            stream.drain()
            return
        try:
            info = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
        except tarfile.HeaderError as error:
            raise stream.fault(f"bad header, {error},") from error
        if info.size < 0:
            raise stream.fault("negative size")
        if info.type in _PAX:
            here |= _pax(stream, _header_data(stream, info.size))
        elif info.type == _PAX_GLOBAL:
            everywhere |= _pax(stream, _header_data(stream, info.size))
        elif info.type == tarfile.GNUTYPE_LONGNAME:
            here["path"] = _header_data(stream, info.size).rstrip(b"\x00").decode("utf-8", "surrogateescape")
        elif info.type == tarfile.GNUTYPE_LONGLINK:
            _header_data(stream, info.size)
        else:
            yield from _member(stream, info, everywhere | here, largest)
            here = {}
    raise stream.fault("no end mark")


def _member(stream: _Stream, info: tarfile.TarInfo, values: dict[str, str], largest: int) -> Iterator[Member]:
    name = values.get("path", info.name)
    if info.type == tarfile.GNUTYPE_SPARSE or any(key.startswith("GNU.sparse") for key in values):
        raise stream.fault("sparse file; pack the archive without --sparse;")
    if info.isdir():
        return
    if info.type in _LINKS:
        yield Member(name, b"", "link in archive")
        return
    if info.type in _SPECIAL:
        yield Member(name, b"", "special file in archive")
        return
    size = _size(stream, values["size"]) if "size" in values else info.size
    padding = -size % _BLOCK
    reason = "path leaves the archive" if name.startswith("/") or ".." in name.split("/") else ""
    if not reason and size > largest:
        reason = "file too large"
    if reason:
        stream.skip(size + padding)
        yield Member(name, b"", reason)
        return
    content = stream.read(size)
    stream.skip(padding)
    yield Member(name, content, "")


def _header_data(stream: _Stream, size: int) -> bytes:
    if size > _LARGEST_HEADER:
        raise stream.fault(f"extended header of {size} bytes")
    data = stream.read(size)
    stream.skip(-size % _BLOCK)
    return data


def _pax(stream: _Stream, data: bytes) -> dict[str, str]:
    """The `length key=value` records of a pax header (POSIX.1-2001)."""
    values = {}
    while data.strip(b"\x00"):
        digits, _, _ = data[:21].partition(b" ")
        length = _size(stream, digits.decode("latin-1"))
        key, equals, value = data[len(digits) + 1 : length - 1].partition(b"=")
        if not equals or not len(digits) + 1 < length <= len(data):
            raise stream.fault("bad extended header")
        values[key.decode("utf-8", "surrogateescape")] = value.decode("utf-8", "surrogateescape")
        data = data[length:]
    return values


def _size(stream: _Stream, text: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) < 20):
        raise stream.fault("bad number in an extended header")
    return int(text)

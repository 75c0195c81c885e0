"""Reading of the members of tar and zip archives, in one pass and without writing to disk.

Python's tarfile keeps a list of all members in memory and reads extended headers of any size. This module decodes
single header blocks with tarfile and bounds everything else, so that a tar of any length is read in constant memory.
Formats are V7, ustar, pax and GNU tar, compressed by gzip or not, and zip. Archives within archives are read to a depth
of NESTING.
"""

import gzip
import io
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

from data_specs.cli import decimal
from data_specs.errors import UserError

ARCHIVE_SUFFIXES = (".tar", ".tar.gz", ".tgz", ".zip")
NESTING = 2  # levels of archives within the outermost archive
_BLOCK = 512
_LARGEST_HEADER = 1 << 20  # bytes of a pax header or a GNU long name
_LARGEST_NESTED_ZIP = 1 << 28  # bytes, held in memory because the directory of a zip is at its end
_STEP = 1 << 20
# An archive may unpack to _FREE_BYTES and _LARGEST_RATIO times its size. gzip compresses zeros 1000 to 1, MIDI files
# and their padding 3 to 30.
_LARGEST_RATIO, _FREE_BYTES = 300, 1 << 28
_PAX, _PAX_GLOBAL = (tarfile.XHDTYPE, tarfile.SOLARIS_XHDTYPE), tarfile.XGLTYPE
_LINKS = (tarfile.LNKTYPE, tarfile.SYMTYPE)
_SPECIAL = (tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE)
_ZIP_ERRORS = (OSError, EOFError, ValueError, RuntimeError, NotImplementedError, zlib.error, zipfile.BadZipFile)


class Member(NamedTuple):
    """A file of an archive.

    `reason` is empty, or the reason of its rejection; then `content` is empty. The name of a file of an inner archive
    begins with the path of that archive.
    """

    name: str  # bytes that are not UTF-8 are surrogates, as from os.fsdecode
    content: bytes
    reason: str


class _Stream:
    """The uncompressed bytes of a tar, read in order. The file may be gzipped or not.

    Each method that reads raises UserError if the file cannot be read, cannot be unpacked, or unpacks to more than 300
    times its size plus 256 MiB.
    """

    def __init__(self, file: BinaryIO, name: str) -> None:
        self.name = name
        self.position = 0
        self._file = file
        buffered = file if isinstance(file, io.BufferedReader) else io.BufferedReader(file)  # type: ignore[type-var]
        packed = buffered.peek(2)[:2] == b"\x1f\x8b"
        self._data: BinaryIO | gzip.GzipFile = gzip.GzipFile(fileobj=buffered) if packed else buffered

    def read(self, size: int) -> bytes:
        """Return the next `size` bytes.

        Raises:
            UserError: there are fewer, or as in the class.
        """
        data = self._read(size)
        if len(data) < size:
            raise self.fault("it ends within a file")
        return data

    def read_block(self) -> bytes:
        """Return the next header block (512 bytes), or no bytes at the end of the file.

        Raises:
            UserError: the file ends within the block, or as in the class.
        """
        data = self._read(_BLOCK)
        if len(data) not in (0, _BLOCK):
            raise self.fault("it ends within a header")
        return data

    def skip(self, size: int) -> None:
        """Read and discard `size` bytes; raise as `read` does."""
        while size:
            size -= len(self.read(min(size, _STEP)))

    def drain(self) -> None:
        """Read to the end of the file, so that gzip compares its checksum.

        Raises:
            UserError: one of the bytes left is not 0, or as in the class.
        """
        while data := self._read(_STEP):
            if data.strip(b"\x00"):
                raise self.fault("more data follow its end mark")

    def _read(self, size: int) -> bytes:
        parts = []
        try:
            while size and (part := self._data.read(min(size, _STEP))):
                parts.append(part)
                size -= len(part)
                self.position += len(part)
                if self.position > _FREE_BYTES + _LARGEST_RATIO * self._file.tell():
                    raise self.fault(f"it unpacks to more than {_LARGEST_RATIO} times its size")
        except (OSError, EOFError, zlib.error) as error:
            raise self.fault(str(error)) from error
        return b"".join(parts)

    def fault(self, what: str) -> UserError:
        """Return, without raising it, the UserError for damage at the current position; `what` describes the damage."""
        where = f"{what}, at byte {self.position}"
        return UserError(f"the archive {self.name} is damaged or cut short ({where}); download or pack it again")


class _Content(io.RawIOBase):
    """The content of one member of a tar as a file that is read in order, for an archive within an archive.

    `left` is the number of bytes not read yet.
    """

    def __init__(self, stream: _Stream, size: int) -> None:
        self._stream = stream
        self._size = self.left = size

    def readable(self) -> bool:
        """Return True: io requires this method."""
        return True

    def tell(self) -> int:
        """Return the number of bytes read so far."""
        return self._size - self.left

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        """Read the next bytes into `buffer`, at most its length, and return their number, 0 at the end."""
        count = min(len(buffer), self.left)
        buffer[:count] = self._stream.read(count)
        self.left -= count
        return count


def is_archive(path: Path) -> bool:
    """Return whether a file begins like a zip, a tar or a gzipped tar. The rest of the file is not checked.

    Raises:
        OSError: the file cannot be opened.
    """
    with open(path, "rb") as file:
        if file.read(4) in (b"PK\x03\x04", b"PK\x05\x06"):
            return True
        file.seek(0)
        try:
            block = _Stream(file, str(path)).read(_BLOCK)
            if block.strip(b"\x00"):  # else an end mark: an empty archive
                tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
        except (UserError, tarfile.HeaderError):
            return False
    return True


def is_archive_name(name: str) -> bool:
    """Return whether a file name ends in .tar, .tar.gz, .tgz or .zip, in upper or lower case."""
    return name.lower().endswith(ARCHIVE_SUFFIXES)


def read_members(path: Path, largest: int) -> Iterator[Member]:
    """Iterate over the files of an archive and of the archives in it. Directories are left out.

    Members that are rejected have a reason instead of content. They are files of more than `largest` bytes, absolute
    names and names with `..`, links, devices, encrypted or damaged files of a zip, and inner archives that are damaged,
    sparse, nested more than two levels deep, or too large: more than 256 MiB for a zip, and for any archive within a
    zip.

    Raises:
        UserError: the outermost archive is damaged, cut short or sparse, or unpacks to more than 300 times its size
            plus 256 MiB.
        OSError: the archive cannot be opened.
    """
    with open(path, "rb") as file:
        yield from _archive(file, str(path), largest, 0)


def _archive(file: BinaryIO, name: str, largest: int, depth: int) -> Iterator[Member]:
    buffered = io.BufferedReader(file)  # type: ignore[type-var]
    if buffered.peek(4)[:4] not in (b"PK\x03\x04", b"PK\x05\x06"):
        yield from _members(_Stream(buffered, name), largest, depth)
    elif buffered.seekable():
        yield from _zip_members(buffered, name, largest, depth)
    else:
        content = buffered.read(_LARGEST_NESTED_ZIP + 1)
        if len(content) > _LARGEST_NESTED_ZIP:
            yield Member("", b"", "archive in archive too large")
        else:
            yield from _zip_members(io.BytesIO(content), name, largest, depth)


def _nested(file: BinaryIO, name: str, largest: int, depth: int) -> Iterator[Member]:
    """Iterate over the members of an archive within an archive, with `name` before their names.

    If the archive is damaged, the last member is a reject for it. If it is nested too deeply, that reject is the only
    member.

    Args:
        depth: number of archives around this one, less one.
    """
    if depth >= NESTING:
        yield Member(name, b"", "archive nested too deeply")
        return
    try:
        for member in _archive(file, name, largest, depth + 1):
            yield member._replace(name=f"{name}/{member.name}".rstrip("/"))
    except UserError:
        yield Member(name, b"", "damaged archive in archive")


def _zip_members(file: BinaryIO, name: str, largest: int, depth: int) -> Iterator[Member]:
    try:
        archive = zipfile.ZipFile(file)
    except _ZIP_ERRORS as error:
        raise UserError(f"the archive {name} is damaged or cut short ({error}); download or pack it again") from error
    packed, unpacked = file.seek(0, 2), 0
    for info in archive.infolist():
        if info.is_dir():
            continue
        reason = _name_fault(info.filename)
        if stat.S_ISLNK(info.external_attr >> 16):
            reason = "link in archive"
        elif info.flag_bits & 1:
            reason = "encrypted file in archive"
        nested = not reason and is_archive_name(info.filename)
        if not reason and not nested and info.file_size > largest:
            reason = "file too large"
        content = b""
        try:
            if nested:
                with archive.open(info) as member:
                    yield from _nested(io.BytesIO(member.read(_LARGEST_NESTED_ZIP)), info.filename, largest, depth)
                continue
            if not reason:
                with archive.open(info) as member:
                    content = member.read(largest + 1)
        except _ZIP_ERRORS:
            reason = "damaged file in archive"
        if len(content) > largest:
            content, reason = b"", "file too large"
        unpacked += len(content)
        if unpacked > _FREE_BYTES + _LARGEST_RATIO * packed:
            raise UserError(
                f"the archive {name} unpacks to more than {_LARGEST_RATIO} times its size; use another archive"
            )
        yield Member(info.filename, content, reason)


def _name_fault(name: str) -> str:
    return "path leaves the archive" if name.startswith("/") or ".." in name.split("/") else ""


def _members(stream: _Stream, largest: int, depth: int) -> Iterator[Member]:
    everywhere: dict[str, str] = {}  # pax values of all following members
    here: dict[str, str] = {}  # pax values and GNU names of the next member
    while block := stream.read_block():
        if not block.strip(b"\x00"):
            stream.drain()
            return
        try:
            info = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
        except tarfile.HeaderError as error:
            raise stream.fault(f"bad header: {error}") from error
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
            yield from _member(stream, info, everywhere | here, largest, depth)
            here = {}
    raise stream.fault("no end mark")


def _member(
    stream: _Stream, info: tarfile.TarInfo, values: dict[str, str], largest: int, depth: int
) -> Iterator[Member]:
    name = values.get("path", info.name)
    if info.type == tarfile.GNUTYPE_SPARSE or any(key.startswith("GNU.sparse") for key in values):
        raise stream.fault("sparse file; pack the archive without --sparse")
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
    reason = _name_fault(name)
    if not reason and is_archive_name(name):
        content = _Content(stream, size)
        yield from _nested(content, name, largest, depth)  # type: ignore[arg-type]
        stream.skip(content.left + padding)
        return
    if not reason and size > largest:
        reason = "file too large"
    if reason:
        stream.skip(size + padding)
        yield Member(name, b"", reason)
        return
    data = stream.read(size)
    stream.skip(padding)
    yield Member(name, data, "")


def _header_data(stream: _Stream, size: int) -> bytes:
    if size > _LARGEST_HEADER:
        raise stream.fault(f"extended header of {size} bytes")
    data = stream.read(size)
    stream.skip(-size % _BLOCK)
    return data


def _pax(stream: _Stream, data: bytes) -> dict[str, str]:
    """Return the values by key of the `length key=value` records of a pax header (POSIX.1-2001).

    Raises:
        UserError: a record is malformed.
    """
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
    if (size := decimal(text)) is None:
        raise stream.fault("bad number in an extended header")
    return size

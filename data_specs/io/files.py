"""Files that are written whole or not at all, checks of output paths, digests, and folders moved aside."""

import errno
import hashlib
import json
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from data_specs.errors import UserError

Json = dict[str, Any]  # a JSON object
_TEMPORARY = ".tmp"
LONGEST_NAME = 255  # bytes, of nearly all file systems
_FULL = {errno.ENOSPC: "no space is left", errno.EDQUOT: "your quota is used up"}
_CLOSED = (errno.EROFS, errno.EACCES, errno.EPERM)


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Raise errors of the disk in the block as a UserError about `path`.

    These are: disk full, quota used up, not permitted, read-only, a part of the path is a file, a folder in place of a
    file, and a name that is too long. Other errors pass unchanged.
    """
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise UserError(
                f"{_FULL[error.errno]} to write {path}; free some or choose another folder; finished work is kept, "
                f"run the same command again to resume"
            ) from error
        if error.errno in _CLOSED:
            raise UserError(f"{path} cannot be written ({error.strerror}); choose another folder") from error
        if isinstance(error, NotADirectoryError | FileExistsError):
            raise UserError(f"{path} cannot be made: a part of its path is a file; choose another folder") from error
        if isinstance(error, IsADirectoryError):
            raise UserError(f"{path} is a folder; give the path of a file") from error
        if error.errno == errno.ENAMETOOLONG:
            raise UserError(f"the name of {path} is too long; choose a shorter one") from error
        raise


@contextmanager
def atomic_write(path: Path) -> Iterator[BinaryIO]:
    """Open a binary file that is renamed to `path` if the block ends without an error, and deleted otherwise.

    Missing folders are made; an existing file is replaced. The temporary file has a random name in the same folder, so
    that two writers of one path, even on two machines, do not share it.

    Raises:
        UserError: the errors of `disk_errors`.
    """
    # promise: file-appears-whole-all
    temporary = path.with_name(f".{secrets.token_hex(8)}{_TEMPORARY}")
    with disk_errors(path):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with open(temporary, "wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except BaseException:
            with suppress(OSError):
                # promise: sentence-pipeline-trainer-finished
                temporary.unlink(missing_ok=True)
            raise


def check_output_file(path: Path) -> Path:
    """Return `path` if a file can be written there, as far as can be known without writing; nothing is made.

    Raises:
        UserError: it is a folder, is below a file, cannot be written, or its name is too long.
    """
    with disk_errors(path):
        if len(os.fsencode(path.name)) > LONGEST_NAME:
            raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG))
        if path.is_dir():
            raise IsADirectoryError
        existing = next(parent for parent in path.absolute().parents if parent.exists())
        if not existing.is_dir():
            raise NotADirectoryError
        if not os.access(existing, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    return path


def check_output_folder(path: Path) -> Path:
    """Return `path` if files can be written below it, as far as can be known without writing; nothing is made.

    Raises:
        UserError: it or a part of its path is a file, or it cannot be written.
    """
    check_output_file(path / _TEMPORARY)
    return path


def remove_temporaries(folder: Path) -> None:
    """Delete the temporary files that killed writers left in `folder`; the caller must hold the folder's lock."""
    for path in folder.glob(f".*{_TEMPORARY}"):
        path.unlink(missing_ok=True)


def write_bytes(path: Path, content: bytes) -> None:
    """Write `content` to `path` atomically; errors as in `atomic_write`."""
    with atomic_write(path) as file:
        file.write(content)


def write_json(path: Path, value: Any) -> None:
    """Write `value` as ASCII JSON with sorted keys, one space of indentation and a final newline, atomically."""
    write_bytes(path, (json.dumps(value, indent=1, sort_keys=True, ensure_ascii=True) + "\n").encode())


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file's content, hex; the file is read in blocks."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def value_digest(value: Any) -> str:
    """Return the SHA-256, hex, of a JSON value in canonical form: sorted keys, no blanks, ASCII.

    Raises:
        ValueError: a number is not finite.
    """
    canonical = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return hashlib.sha256(canonical.encode()).hexdigest()


def move_aside(folder: Path) -> Path:
    """Rename `folder` to the first free `<folder>.old-N`, N from 1, beside it, and return the new path."""
    number = 1
    while (target := folder.with_name(f"{folder.name}.old-{number}")).exists():
        number += 1
    folder.rename(target)
    return target

"""Sources of MIDI files: a folder, a tar or tar.gz, or the tunes that come with the project.

Listing is cheap and separate from reading: the files of a folder carry their path and are read where they are used,
by any worker; members of an archive, which can only be read in order, carry their content. What is in them counts,
never where they lie: a song is known by the SHA-256 of its bytes, so folder and archive of the same files are one
source.
"""

import hashlib
import os
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from data_specs.errors import UserError
from pipeline.midi.archives import is_archive, read_members
from pipeline.rejects import Rejected, Rejects

if TYPE_CHECKING:
    from data_specs.spec import Limits

TUNES = "tunes"
SUFFIXES = (".mid", ".midi", ".kar")
_BATCH_BYTES = 1 << 26  # of content carried by one batch


@dataclass(frozen=True)
class SourceFile:
    """One file. `name` is fit to be shown and stored; the content is here, or at `path` until `read` is called."""

    name: str
    path: str = ""
    content: bytes | None = None

    def read(self, largest: int) -> bytes:
        """The content.

        Raises:
            Rejected: it cannot be read, is no regular file, or has more than `largest` bytes.
        """
        if self.content is not None:
            return self.content
        try:
            # Not blocking, since a name may have become a pipe since it was listed.
            descriptor = os.open(self.path, os.O_RDONLY | os.O_NONBLOCK)
            with open(descriptor, "rb") as file:
                if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                    raise Rejected("not a regular file")
                content = file.read(largest + 1)
        except OSError as error:
            raise Rejected("unreadable file", error.strerror or str(error)) from error
        if len(content) > largest:
            raise Rejected("file too large", f"more than {largest} bytes")
        return content


def content_digest(content: bytes) -> str:
    """The identity of a song: SHA-256 of its bytes, 64 hex digits."""
    return hashlib.sha256(content).hexdigest()


def printable(name: str) -> str:
    """A name as text: bytes that are not UTF-8 and control characters in backslash form."""
    text = name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def is_midi_name(name: str) -> bool:
    """Whether a file name ends like a MIDI file's, in capitals or not."""
    return name.lower().endswith(SUFFIXES)


def iter_files(midi: str, limits: "Limits", rejects: Rejects) -> Iterator[SourceFile]:
    """The MIDI files of `midi`: a folder, recursively and in the order of names, an archive in its own, or `tunes`.

    What is passed over is counted in `rejects`.

    Raises:
        UserError: there is nothing at `midi`, it is of another kind, holds no MIDI file, or is a damaged archive.
    """
    found = 0
    for file in _files(midi, limits, rejects):
        found += 1
        yield file
    if not found:
        raise UserError(f"MIDI={printable(midi)} holds no readable {', '.join(SUFFIXES)} file; choose another")


def source_exists(midi: str) -> bool:
    """Return whether `midi` names the project's tunes or an existing path."""
    return midi == TUNES or Path(midi).exists()


def batches(files: Iterable[SourceFile], count: int) -> Iterator[list[SourceFile]]:
    """Lists of at most `count` files, and of at most 64 MiB of content but for one file above that."""
    batch: list[SourceFile] = []
    size = 0
    for file in files:
        own = len(file.content or b"")
        if batch and (len(batch) == count or size + own > _BATCH_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(file)
        size += own
    if batch:
        yield batch


def _files(midi: str, limits: "Limits", rejects: Rejects) -> Iterator[SourceFile]:
    if midi == TUNES:
        from pipeline.tunes import midi_files

        return (SourceFile(name, content=content) for name, content in midi_files())
    path = Path(midi)
    try:
        if path.is_dir():
            root = os.path.realpath(midi)
            return (SourceFile(printable(name), path=os.path.join(root, name)) for name in list_folder(midi, rejects))
        if path.is_file():
            if not is_archive(path):
                raise UserError(f"MIDI={printable(midi)} is not a tar or tar.gz; unpack it and give the folder")
            return _archive_files(path, limits.file_bytes, rejects)
    except OSError as error:
        raise UserError(f"MIDI={printable(midi)} cannot be read: {error.strerror}") from error
    raise UserError(f"MIDI={printable(midi)} is neither a folder nor an archive nor `{TUNES}`; check the path")


def _archive_files(path: Path, largest: int, rejects: Rejects) -> Iterator[SourceFile]:
    for member in read_members(path, largest):
        name = printable(member.name.removeprefix("./"))
        if member.reason:
            rejects.add(member.reason, name)
        elif not is_midi_name(member.name):
            rejects.add("not a MIDI file name", name)
        else:
            yield SourceFile(name, content=member.content)


def list_folder(folder: str, rejects: Rejects) -> list[str]:
    """Paths of the MIDI files below `folder`, relative to it, in the order of their bytes.

    Links to files inside are followed, links out of the folder refused; links to folders are not walked, since what
    they lead to inside is found anyway. Nothing is opened.
    """
    root = os.path.realpath(folder)
    found: list[str] = []
    waiting = [""]
    while waiting:
        parent = waiting.pop()
        try:
            entries = list(os.scandir(os.path.join(root, parent)))
        except OSError as error:
            if not parent:
                raise UserError(f"MIDI={printable(folder)} cannot be read: {error.strerror}") from error
            rejects.add("unreadable folder", printable(parent))
            continue
        for entry in entries:
            name = os.path.join(parent, entry.name)
            if entry.is_dir(follow_symlinks=False):
                waiting.append(name)
            elif reason := _refusal(entry, root):
                rejects.add(reason, printable(name))
            else:
                found.append(name)
    return sorted(found, key=os.fsencode)


def _refusal(entry: os.DirEntry[str], root: str) -> str:
    """Why an entry that is no folder is not taken; empty if it is."""
    if entry.is_symlink():
        target = os.path.realpath(entry.path)
        if os.path.commonpath([root, target]) != root:
            return "link out of the folder"
        if os.path.isdir(target):
            return "link to a folder"
        if not os.path.exists(target):
            return "broken link"
    if not is_midi_name(entry.name):
        return "not a MIDI file name"
    if not entry.is_file():
        return "not a regular file"
    return ""

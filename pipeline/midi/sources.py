"""Sources of MIDI files: a folder, a tar or zip archive, or the tunes of the project.

Files are listed first and read later. A file of a folder is listed with its path and read by the worker that uses it; a
member of an archive is listed with its content. A song is identified by the SHA-256 of its bytes, so a folder and an
archive of the same files are the same source.
"""

import hashlib
import os
import stat
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from data_specs.errors import UserError
from pipeline.midi.archives import is_archive, is_archive_name, read_members
from pipeline.rejects import Rejected, Rejects

if TYPE_CHECKING:
    from data_specs.spec import Limits, Spec

TUNES = "tunes"
SUFFIXES = (".mid", ".midi", ".kar", ".rmi")
_BATCH_BYTES = 1 << 26  # most bytes of content in one batch of files


@dataclass(frozen=True)
class SourceFile:
    """A file of a source.

    Attributes:
        name: printable name, for messages and tables.
        path: where the content is read from; not used if `content` is given.
        content: bytes of the file, or None.
        is_archive: whether the file is an archive of MIDI files.
    """

    name: str
    path: str = ""
    content: bytes | None = None
    is_archive: bool = False

    def read(self, largest: int) -> bytes:
        """Return the content of the file. A `content` that was given is returned whatever its size.

        Raises:
            Rejected: the file cannot be read, is not a regular file, or has more than `largest` bytes.
        """
        if self.content is not None:
            return self.content
        try:
            # Non-blocking, since the file may have been replaced by a pipe after it was listed.
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
    """Return the digest that identifies a song: SHA-256 of its bytes as 64 hexadecimal digits."""
    return hashlib.sha256(content).hexdigest()


def printable(name: str) -> str:
    """Return a file name with bytes that are not UTF-8 and unprintable characters as backslash escapes."""
    text = name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def is_midi_name(name: str) -> bool:
    """Return whether a file name ends in .mid, .midi, .kar or .rmi, in upper or lower case."""
    return name.lower().endswith(SUFFIXES)


def list_files(midi: str, rejects: Rejects) -> list[SourceFile]:
    """List the files of the source `midi` without reading MIDI files.

    Args:
        midi: path of a folder or of an archive, or TUNES.
        rejects: the files of a folder that are left out are added to it.

    Returns:
        Of a folder its MIDI files and archives, sorted; of an archive that archive alone; of TUNES the tunes with
        content.

    Raises:
        UserError: `midi` is missing, unreadable, or neither a folder nor an archive.
    """
    if midi == TUNES:
        from pipeline.tunes import midi_files

        return [SourceFile(name, content=content) for name, content in midi_files()]
    path = Path(midi)
    try:
        if path.is_dir():
            root = os.path.realpath(midi)
            return [
                SourceFile(printable(name), path=os.path.join(root, name), is_archive=not is_midi_name(name))
                for name in list_folder(midi, rejects)
            ]
        if path.is_file():
            if not is_archive(path):
                raise UserError(f"MIDI={printable(midi)} must be a folder, a tar or a zip, got another file")
            return [SourceFile(printable(path.name), path=os.path.realpath(midi), is_archive=True)]
    except OSError as error:
        raise UserError(f"MIDI={printable(midi)} cannot be read: {error.strerror}") from error
    raise UserError(f"MIDI={printable(midi)} is neither a folder nor an archive nor `{TUNES}`; check the path")


def expand_archives(files: Iterable[SourceFile], midi: str, limits: "Limits", rejects: Rejects) -> Iterator[SourceFile]:
    """Iterate over `files` with each archive replaced by the MIDI files in it, read to memory one at a time.

    Members are named by their path in the archive, after the name of the archive if `midi` is a folder. Other members,
    and those of more than `limits.file_bytes` bytes, are added to `rejects`.

    Raises:
        UserError: at the end, if there was no MIDI file at all; or when a damaged archive is reached.
    """
    found = 0
    for file in files:
        if not file.is_archive:
            found += 1
            yield file
            continue
        for member in read_members(Path(file.path), limits.file_bytes):
            name = printable(member.name.removeprefix("./"))
            if not Path(midi).is_file():
                name = f"{file.name}/{name}"
            if member.reason:
                rejects.add(member.reason, name)
            elif not is_midi_name(member.name):
                rejects.add("not a MIDI file name", name)
            else:
                found += 1
                yield SourceFile(name, content=member.content)
    if not found:
        counts = ", ".join(f"{count} x {reason}" for reason, count in sorted(rejects.counts.items())) or "nothing"
        raise UserError(
            f"MIDI={printable(midi)} holds no readable {', '.join(SUFFIXES)} file (found: {counts}); choose another"
        )


def source_name(spec: "Spec") -> str:
    """Return the source of a spec as typed to make: `AUDIO=folder` for recordings, else `MIDI=path`."""
    return f"AUDIO={spec.source.audio}" if spec.source.audio else f"MIDI={spec.source.midi}"


def source_exists(midi: str) -> bool:
    """Return whether `midi` is TUNES or an existing path."""
    return midi == TUNES or Path(midi).exists()


def batches(files: Iterable[SourceFile], count: int) -> Iterator[list[SourceFile]]:
    """Group files in order into lists of at most `count` files and 64 MiB of `content`.

    A file without `content` counts 0 bytes. One with more than 64 MiB is in a list of its own.
    """
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


class FileKind(NamedTuple):
    """A kind of file that a folder is searched for.

    Attributes:
        option: make variable that names the folder, for messages.
        accepts: returns whether a file with this name is of the kind.
        otherwise: reason under which files with other names are rejected.
        ignored: paths, relative to the folder, of files that are neither listed nor rejected.
    """

    option: str
    accepts: Callable[[str], bool]
    otherwise: str
    ignored: tuple[str, ...] = ()


MIDI_FILES = FileKind("MIDI", lambda name: is_midi_name(name) or is_archive_name(name), "not a MIDI file name")


def list_folder(folder: str, rejects: Rejects, kind: FileKind = MIDI_FILES) -> list[str]:
    """Return the relative paths of the files of a kind below `folder`, sorted by their bytes. No file is opened.

    A link is listed if it leads to a file in the folder or in a store that belongs to it: the blobs of a model hub's
    snapshots, or the objects of a git-annex repository. Links to folders are rejected; folders inside are found anyway.

    Args:
        rejects: files of another kind, links that are not listed and unreadable subfolders are added to it.

    Raises:
        UserError: `folder` cannot be read.
    """
    root = os.path.realpath(folder)
    stores = _stores(root)
    found: list[str] = []
    waiting = [""]
    while waiting:
        parent = waiting.pop()
        try:
            entries = list(os.scandir(os.path.join(root, parent)))
        except OSError as error:
            if not parent:
                raise UserError(f"{kind.option}={printable(folder)} cannot be read: {error.strerror}") from error
            rejects.add("unreadable folder", printable(parent))
            continue
        for entry in entries:
            name = os.path.join(parent, entry.name)
            if entry.is_dir(follow_symlinks=False):
                waiting.append(name)
            elif name in kind.ignored:
                continue
            elif reason := _refusal(entry, [root, *stores], kind):
                rejects.add(reason, printable(name))
            else:
                found.append(name)
    return sorted(found, key=os.fsencode)


def _stores(root: str) -> list[str]:
    """Return the folders outside `root` to which links in it may lead, as far as they exist.

    They are the blobs of a model hub's snapshots and the objects of a git-annex repository that `root` is in.
    """
    parents = [Path(root), *Path(root).parents]
    hubs = [parent.parent / "blobs" for parent in parents if parent.name == "snapshots"]
    annexes = [parent / ".git" / "annex" / "objects" for parent in parents]
    return [str(store) for store in (*hubs, *annexes) if store.is_dir()]


def _refusal(entry: os.DirEntry[str], allowed: list[str], kind: FileKind) -> str:
    """Return the reason for rejecting an entry that is not a folder, an empty string to accept it.

    Args:
        allowed: real paths of the folders to which links may lead.
        kind: the kind of file to accept.
    """
    if entry.is_symlink():
        target = os.path.realpath(entry.path)
        if not any(os.path.commonpath([root, target]) == root for root in allowed):
            return "link out of the folder"
        if os.path.isdir(target):
            return "link to a folder"
        if not os.path.exists(target):
            return "broken link"
    if not kind.accepts(entry.name):
        return kind.otherwise
    if not entry.is_file():
        return "not a regular file"
    return ""

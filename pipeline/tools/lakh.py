"""`make lakh`: resumable download of the Lakh MIDI dataset v0.1 (Raffel 2016), and a check of every file in it.

Most files are named by the MD5 of their content, with which the content is compared.
"""

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from data_specs.errors import UserError
from data_specs.io.download import download
from data_specs.io.files import disk_errors, file_sha256
from pipeline.midi.archives import read_members
from pipeline.midi.sources import is_midi_name, printable
from pipeline.rejects import Rejects

PUBLISHED = "http://hog.ee.columbia.edu/craffel/lmd"  # named by colinraffel.com/projects/lmd; no https
LARGEST = 1 << 28  # bytes of the largest member that is checked
_MD5_NAME = re.compile(r"(?:.*/)?([0-9a-f]{32})\.mid", re.DOTALL)
_EXAMPLES = 3


@dataclass(frozen=True)
class PublishedArchive:
    """File name, size in bytes and SHA-256 (hex) of a published archive."""

    name: str
    size: int
    sha256: str


FULL = PublishedArchive(
    "lmd_full.tar.gz", 1_768_163_879, "6fcfe2ac49ca08f3f214cec86ab138d4fc4dabcd7f27f491a838dae6db45a12b"
)
MATCHED = PublishedArchive(
    "lmd_matched.tar.gz", 1_407_072_670, "621ff830aed771f469e5bfa13dc12a33c6ed69090adeda63d0b5c47783af0191"
)


@dataclass(frozen=True)
class MemberCounts:
    """Numbers of members of an archive, by result of the check. `rejects` also has examples."""

    matching: int  # members whose content has the digest in their name
    unnamed: int  # MIDI files whose name has no digest
    rejects: Rejects  # all other members


def lakh(archive: PublishedArchive, out: Path, url: str | None) -> int:
    """Download `archive` to the folder `out`, check its members, print the counts, and return the exit status, 0.

    An existing file is not downloaded again. Members that fail the check are printed and do not change the status.

    Args:
        archive: the archive.
        out: folder of the file, made if it is missing.
        url: address of the file; None for the published one.

    Raises:
        UserError: the download fails, its content is not the published one, another file has the path, or the folder
            cannot be written.
    """
    path = out / archive.name
    existed = path.is_file()
    if existed and (path.stat().st_size != archive.size or file_sha256(path) != archive.sha256):
        raise UserError(
            f"{path} must be the published file, got another one; move it away, or choose another folder with OUT="
        )
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    download(url or f"{PUBLISHED}/{archive.name}", path, archive.sha256, archive.size)
    print(f"{path}: {'exists' if existed else 'downloaded'}, {archive.size} bytes, SHA-256 {archive.sha256[:16]}")
    found = check_members(path)
    print(f"{found.matching} files match the digest in their name; {found.unnamed} are not named by digest")
    for reason, entry in found.rejects.to_json().items():
        print(f"  {entry['count']:>8} {reason}, for example {'; '.join(entry['examples'][:_EXAMPLES])}")
    print(f"next: make dataset SPEC=pvt MIDI={path}")
    return 0


def check_members(path: Path) -> MemberCounts:
    """Compare every MIDI file of the archive at `path` with the MD5 in its name and return the counts by result.

    Members of more than 256 MiB are rejected unread. One member is in memory at a time.

    Raises:
        UserError: the archive is damaged or cut short.
    """
    matching = unnamed = 0
    rejects = Rejects()
    for member in tqdm(read_members(path, LARGEST), unit="file", desc="check", disable=None):
        name = printable(member.name)
        named = _MD5_NAME.fullmatch(member.name)
        if member.reason:
            rejects.add(member.reason, name)
        elif named is None:
            if is_midi_name(member.name):
                unnamed += 1
            else:
                rejects.add("not a MIDI file name", name)
        elif hashlib.md5(member.content, usedforsecurity=False).hexdigest() == named[1]:
            matching += 1
        else:
            rejects.add("content does not match the name", name)
    return MemberCounts(matching, unnamed, rejects)

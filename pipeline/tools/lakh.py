"""`make lakh`: the Lakh MIDI dataset v0.1 (Raffel 2016), downloaded, resumed and checked down to each file.

Its files are named by the MD5 of their content, so every member can be held against its name.
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

PUBLISHED = "http://hog.ee.columbia.edu/craffel/lmd"  # as https://colinraffel.com/projects/lmd/ says; no https there
LARGEST = 1 << 28  # bytes of a member that is read to be checked
_MD5_NAME = re.compile(r"(?:.*/)?([0-9a-f]{32})\.mid", re.DOTALL)
_EXAMPLES = 3


@dataclass(frozen=True)
class Archive:
    """A published archive: its name, bytes and SHA-256."""

    name: str
    size: int
    sha256: str


FULL = Archive("lmd_full.tar.gz", 1_768_163_879, "6fcfe2ac49ca08f3f214cec86ab138d4fc4dabcd7f27f491a838dae6db45a12b")
MATCHED = Archive(
    "lmd_matched.tar.gz", 1_407_072_670, "621ff830aed771f469e5bfa13dc12a33c6ed69090adeda63d0b5c47783af0191"
)


@dataclass(frozen=True)
class Checked:
    """What the members of an archive are."""

    right: int  # files that hold what their name says
    unnamed: int  # MIDI files whose name is no digest
    wrong: Rejects  # everything else


def lakh(archive: Archive, out: Path, url: str | None) -> int:
    """Fetch `archive` to the folder `out` from `url`, by default the published address; returns the exit status.

    Raises:
        UserError: the download fails, or a file that stands at its place is another one.
    """
    path = out / archive.name
    stood = path.is_file()
    if stood and (path.stat().st_size != archive.size or file_sha256(path) != archive.sha256):
        raise UserError(f"{path} is not the published file; move it away, or fetch to another folder with OUT=")
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    download(url or f"{PUBLISHED}/{archive.name}", path, archive.sha256, archive.size)
    print(
        f"{path}: {'stands' if stood else 'fetched'}, {archive.size} bytes, SHA-256 {archive.sha256[:16]} as published"
    )
    found = check_members(path)
    print(f"{found.right} files hold what their names say; {found.unnamed} are not named by digest")
    for reason, entry in found.wrong.to_json().items():
        print(f"  {entry['count']:>8} {reason}, for example {'; '.join(entry['examples'][:_EXAMPLES])}")
    print(f"next: make dataset SPEC=pvt MIDI={path}")
    return 0


def check_members(path: Path) -> Checked:
    """Hold every MIDI file of an archive against the MD5 in its name; streams, in constant memory."""
    right = unnamed = 0
    wrong = Rejects()
    for member in tqdm(read_members(path, LARGEST), unit="file", desc="check", disable=None):
        name = printable(member.name)
        named = _MD5_NAME.fullmatch(member.name)
        if member.reason:
            wrong.add(member.reason, name)
        elif named is None:
            if is_midi_name(member.name):
                unnamed += 1
            else:
                wrong.add("not a MIDI file name", name)
        elif hashlib.md5(member.content, usedforsecurity=False).hexdigest() == named[1]:
            right += 1
        else:
            wrong.add("content is not what the name says", name)
    return Checked(right, unnamed, wrong)

"""HTTP downloads, complete and verified or absent. Interrupted transfers resume."""

import os
import time
import urllib.error
import urllib.request
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from typing import BinaryIO

from data_specs.errors import UserError
from data_specs.home import ensure_home
from data_specs.io.files import file_sha256
from data_specs.io.locks import lock_open_file

CACHE_VARIABLE = "PVT_AUDIO_CACHE"
BLOCK = 1 << 16  # bytes
TIMEOUT_S = 30
ATTEMPTS = 4  # in a row without a single new byte
PAUSE_S = 0.5  # before the second attempt, doubled each time


def cache_folder() -> Path:
    """Folder of downloads: `$PVT_AUDIO_CACHE`, else `pvt-audio` in the user's cache folder."""
    chosen = os.environ.get(CACHE_VARIABLE)
    if chosen:
        return Path(chosen).expanduser()
    ensure_home()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "pvt-audio"


def download(url: str, path: Path, sha256: str, size: int | None = None, pause_s: float = PAUSE_S) -> Path:
    """Fetch `url` to `path` unless the file exists, and return `path`.

    Bytes gather in `path` + `.part`, which survives a broken connection or a killed process and is continued by an
    HTTP range request. The file takes its name only when its digest is right. Processes that want the same file wait
    for the one that fetches it. Progress shows on a terminal only.

    Args:
        url: http or https address.
        path: the file to make; folders are made as needed.
        sha256: hex digest, whole or its first characters.
        size: expected bytes where known: for the progress bar, and to refuse a file of another length.
        pause_s: wait before the first retry, in seconds.

    Raises:
        UserError: the network or the server fails, or the content is not the expected one.
    """
    if path.is_file():
        return path
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(path.name + ".part")
        with open(part, "ab") as file, lock_open_file(file, part, str(path), wait=True):
            if not path.is_file():  # another process may have finished it meanwhile
                _fetch(url, path, file, size, pause_s)
                _verify(url, part, sha256, size)
                os.replace(part, path)
            elif part.is_file():  # made by the opening above
                part.unlink()
    except OSError as error:
        raise UserError(f"{path} cannot be written ({error}); free space or set {CACHE_VARIABLE}") from error
    return path


def _fetch(url: str, path: Path, file: BinaryIO, size: int | None, pause_s: float) -> None:
    """Append to `file` until the server says it is whole; retries as long as new bytes come."""
    from tqdm import tqdm

    failures = 0
    with tqdm(desc=path.name, total=size, unit="B", unit_scale=True, disable=None, initial=file.tell()) as bar:
        while True:
            before = file.tell()
            try:
                _append(url, file, bar)
                return
            except (urllib.error.URLError, HTTPException, TimeoutError, ConnectionError) as error:
                refused = isinstance(error, urllib.error.HTTPError) and 400 <= error.code < 500
                failures = 1 if file.tell() > before else failures + 1
                if refused or failures == ATTEMPTS:
                    reason = getattr(error, "reason", None) or error
                    raise UserError(
                        f"{url} cannot be downloaded ({reason}); check the network and repeat, "
                        f"or fetch the file elsewhere and place it at {path}"
                    ) from error
                time.sleep(pause_s * 2 ** (failures - 1))


def _append(url: str, file: BinaryIO, bar: "tqdm[None]") -> None:  # type: ignore[name-defined]  # noqa: F821
    """Send one request: continue `file` at its end, or start again if the server does not support ranges."""
    held = file.tell()
    request = urllib.request.Request(url, headers={"Range": f"bytes={held}-"} if held else {})
    try:
        response: HTTPResponse = urllib.request.urlopen(request, timeout=TIMEOUT_S)
    except urllib.error.HTTPError as error:
        if error.code != 416:  # "range not satisfiable": nothing is left to fetch, or the part is too long
            raise
        if error.headers.get("Content-Range", "") != f"bytes */{held}":
            _empty(file)
            raise ConnectionError("the server holds fewer bytes than came before; starting again") from error
        return
    with response:
        if held and not response.headers.get("Content-Range", "").startswith(f"bytes {held}-"):
            _empty(file)
            bar.reset(bar.total)
        if bar.total is None and response.length is not None:
            bar.total = file.tell() + response.length
        while block := _read(response):
            file.write(block)
            bar.update(len(block))
        file.flush()
        # promise: continued-broke-match-digest-3
        if response.length:  # read1 ends without an error where the connection was cut
            raise ConnectionError(f"the connection ended {response.length} bytes early")


def _read(response: HTTPResponse) -> bytes:
    """Read the next bytes; errors are those of the network, not of the disk."""
    try:
        return response.read1(BLOCK)
    except OSError as error:
        raise ConnectionError(str(error)) from error


def _empty(file: BinaryIO) -> None:
    file.seek(0)
    file.truncate()


def _verify(url: str, part: Path, sha256: str, size: int | None) -> None:
    found, length = file_sha256(part), part.stat().st_size
    # promise: continued-broke-match-digest
    if not found.startswith(sha256) or size not in (None, length):
        # promise: continued-broke-match-digest-2
        part.unlink()  # a wrong file cannot be continued
        raise UserError(
            f"{url} gave {length} bytes with SHA-256 {found} where {sha256} was expected; "
            "repeat the command; if the digest is the same, the file at the source has changed"
        )

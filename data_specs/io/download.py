"""HTTP downloads: a file is complete and verified, or absent. Interrupted transfers resume."""

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
    """Return the folder of downloads: `$PVT_AUDIO_CACHE`, else `pvt-audio` in the user's cache folder. It is not made.

    Sets HOME where the user has none.
    """
    chosen = os.environ.get(CACHE_VARIABLE)
    if chosen:
        return Path(chosen).expanduser()
    ensure_home()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "pvt-audio"


def download(url: str, path: Path, sha256: str, size: int | None = None, pause_s: float = PAUSE_S) -> Path:
    """Fetch `url` to `path` and return `path`. An existing file is returned as it is, without a check of its digest.

    Bytes are appended to `path` + `.part`, which survives a broken connection or a killed process and is continued by
    an HTTP range request. It is renamed to `path` only if its digest is right, and deleted if it is wrong. Processes
    that want the same file wait for the one that fetches it. Progress is shown on a terminal only.

    Args:
        url: http or https address.
        path: the file to make; folders are made as needed.
        sha256: hex digest, whole or its first characters.
        size: expected bytes, for the progress bar and to refuse a file of another length; None if not known.
        pause_s: wait before the first retry, in seconds; doubled for each retry in a row.

    Raises:
        UserError: the network, the server or the disk fails, or the content is not the expected one.
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
    """Append to `file`, whose final path is `path`, until the server says it is whole.

    Retries after errors of the network and of the server.

    Raises:
        UserError: four failures in a row without a new byte, or the server refuses the request (status 4xx).
    """
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
    """Send one request and append its content: from the end of `file`, or all of it if the server ignores ranges.

    In the second case `file` is emptied first; so it is if the server's file is shorter.

    Raises:
        ConnectionError: the connection ended early, or the server's file is shorter.
        URLError, HTTPException, TimeoutError or OSError: as urllib or the disk raises them.
    """
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
    """Return the next bytes of the response, at most 64 KiB, empty at its end.

    Raises:
        ConnectionError: any OSError of the network, so that it is not taken for one of the disk.
    """
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

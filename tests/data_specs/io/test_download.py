"""Downloads against a local HTTP server that cuts connections, ignores ranges, lies or refuses."""

import hashlib
import multiprocessing
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from data_specs.errors import UserError
from data_specs.io.download import ATTEMPTS, CACHE_VARIABLE, cache_folder, download

CONTENT = np.random.default_rng(0).bytes(300_001)
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Server(ThreadingHTTPServer):
    """Serves CONTENT; `cut` bytes after each answer's start the connection breaks; keeps the ranges asked for."""

    daemon_threads = True
    content = CONTENT
    cut: int | None = None
    ranges = True
    status: int | None = None

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: list[str | None] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/file.bin"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        asked = self.headers.get("Range")
        self.server.asked.append(asked)
        if self.server.status:
            self.send_error(self.server.status)
            return
        start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked and self.server.ranges else 0
        if start >= len(self.server.content):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(self.server.content)}")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        body = self.server.content[start:]
        self.send_response(206 if start else 200)
        if start:
            end = len(self.server.content)
            self.send_header("Content-Range", f"bytes {start}-{end - 1}/{end}")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: self.server.cut])

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def test_whole_file_in_one_go(server: Server, tmp_path: Path) -> None:
    path = download(server.url, tmp_path / "new" / "file.bin", SHA256, len(CONTENT))
    assert path.read_bytes() == CONTENT
    assert [p.name for p in path.parent.iterdir()] == ["file.bin"]
    assert server.asked == [None]
    download(server.url, path, SHA256)
    assert len(server.asked) == 1  # what is there is not fetched again


def test_cut_connection_is_continued_where_it_broke(server: Server, tmp_path: Path) -> None:
    server.cut = 100_000
    path = download(server.url, tmp_path / "file.bin", SHA256[:8], pause_s=0)
    assert path.read_bytes() == CONTENT
    assert server.asked == [None, "bytes=100000-", "bytes=200000-", "bytes=300000-"]


def test_part_of_an_earlier_process_is_continued(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file.bin.part").write_bytes(CONTENT[:123])
    assert download(server.url, tmp_path / "file.bin", SHA256).read_bytes() == CONTENT
    assert server.asked == ["bytes=123-"]


def test_whole_part_is_only_verified(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file.bin.part").write_bytes(CONTENT)
    assert download(server.url, tmp_path / "file.bin", SHA256).read_bytes() == CONTENT


def test_part_longer_than_the_file_starts_again(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file.bin.part").write_bytes(CONTENT + b"more")
    assert download(server.url, tmp_path / "file.bin", SHA256, pause_s=0).read_bytes() == CONTENT


def test_server_without_ranges_starts_again(server: Server, tmp_path: Path) -> None:
    server.ranges = False
    (tmp_path / "file.bin.part").write_bytes(CONTENT[:123])
    assert download(server.url, tmp_path / "file.bin", SHA256).read_bytes() == CONTENT


def test_wrong_content_is_refused_and_removed(server: Server, tmp_path: Path) -> None:
    server.content = CONTENT[:-1] + b"x" if CONTENT[-1:] != b"x" else CONTENT[:-1] + b"y"
    with pytest.raises(UserError, match="SHA-256"):
        download(server.url, tmp_path / "file.bin", SHA256)
    assert not list(tmp_path.iterdir())


def test_wrong_length_is_refused(server: Server, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="300001 bytes"):
        download(server.url, tmp_path / "file.bin", SHA256, size=300_000)


def test_dead_connection_gives_up_in_one_sentence_and_keeps_the_part(server: Server, tmp_path: Path) -> None:
    server.cut = 0
    (tmp_path / "file.bin.part").write_bytes(CONTENT[:123])
    with pytest.raises(UserError, match=r"cannot be downloaded.*place it at .*file\.bin"):
        download(server.url, tmp_path / "file.bin", SHA256, pause_s=0)
    assert (tmp_path / "file.bin.part").read_bytes() == CONTENT[:123]
    assert len(server.asked) == ATTEMPTS


def test_missing_page_is_not_asked_for_again(server: Server, tmp_path: Path) -> None:
    server.status = 404
    with pytest.raises(UserError, match="Not Found"):
        download(server.url, tmp_path / "file.bin", SHA256, pause_s=0)
    assert len(server.asked) == 1


def test_no_server_is_one_sentence(tmp_path: Path) -> None:
    with Server() as gone:
        url = gone.url
    with pytest.raises(UserError, match="check the network"):
        download(url, tmp_path / "file.bin", SHA256, pause_s=0)


def test_folder_that_cannot_be_written_is_one_sentence(server: Server, tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file where a folder is needed")
    with pytest.raises(UserError, match="cannot be written"):
        download(server.url, tmp_path / "taken" / "file.bin", SHA256)


def _child(url: str, path: Path) -> None:
    download(url, path, SHA256)


def test_processes_that_want_one_file_fetch_it_once(server: Server, tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    path = tmp_path / "file.bin"
    children = [context.Process(target=_child, args=(server.url, path)) for _ in range(2)]
    for child in children:
        child.start()
    for child in children:
        child.join(60)
    assert [child.exitcode for child in children] == [0, 0]
    assert path.read_bytes() == CONTENT
    assert server.asked == [None]
    assert not path.with_name("file.bin.part").exists()


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({CACHE_VARIABLE: "/a/b"}, lambda home: Path("/a/b")),
        ({"XDG_CACHE_HOME": "/c"}, lambda home: Path("/c/pvt-audio")),
        ({}, lambda home: home / ".cache" / "pvt-audio"),
    ],
)
def test_cache_folder(
    environment: dict[str, str], expected: Callable[[Path], Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in (CACHE_VARIABLE, "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder() == expected(tmp_path)

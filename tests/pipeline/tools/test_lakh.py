"""The download of Lakh against a local server that cuts connections, and the check of names against contents."""

import hashlib
import io
import re
import tarfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from pipeline.cli import main
from pipeline.tools import lakh
from tests.pipeline.made_songs import song_bytes

CUT = 700  # bytes after which every connection breaks


def packed(members: dict[str, bytes]) -> bytes:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:gz") as tar:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return content.getvalue()


@pytest.fixture(scope="module")
def archive():
    songs = [song_bytes(seed) for seed in range(4)]
    members = {f"lmd_full/{hashlib.md5(song).hexdigest()}.mid": song for song in songs[:3]}
    members[f"lmd_full/{'0' * 32}.mid"] = songs[3]
    return packed({**members, "lmd_full/named by hand.mid": songs[0], "lmd_full/README": b"hello"})


@pytest.fixture
def mirror(archive, monkeypatch):
    """The address of a server that breaks every connection after CUT bytes, and whose archive is the published one."""
    requests = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            start = int(re.sub(r"\D", "", self.headers.get("Range", "0")) or 0)
            requests.append(start)
            self.send_response(206 if start else 200)
            if start:
                self.send_header("Content-Range", f"bytes {start}-{len(archive) - 1}/{len(archive)}")
            self.send_header("Content-Length", str(len(archive) - start))
            self.end_headers()
            self.wfile.write(archive[start : start + CUT])

        def log_message(self, *arguments):
            pass

    published = lakh.PublishedArchive("lmd_full.tar.gz", len(archive), hashlib.sha256(archive).hexdigest())
    monkeypatch.setattr(lakh, "FULL", published)
    monkeypatch.setattr("data_specs.io.download.PAUSE_S", 0)
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}/lmd_full.tar.gz", requests
        server.shutdown()


def test_a_broken_download_is_resumed_and_every_name_compared_with_its_content(mirror, archive, tmp_path, capsys):
    url, requests = mirror
    assert main(["lakh", "--out", str(tmp_path), "--url", url]) == 0
    assert (tmp_path / "lmd_full.tar.gz").read_bytes() == archive
    assert requests == list(range(0, len(archive), CUT))  # each byte was asked for once
    printed = capsys.readouterr().out
    assert "3 files match the digest in their name; 1 are not named by digest" in printed
    assert f"1 content does not match the name, for example lmd_full/{'0' * 32}.mid" in printed
    assert "1 not a MIDI file name, for example lmd_full/README" in printed
    assert f"MIDI={tmp_path / 'lmd_full.tar.gz'}" in printed


def test_an_existing_file_is_neither_downloaded_again_nor_overwritten(mirror, archive, tmp_path, capsys):
    url, requests = mirror
    path = tmp_path / "lmd_full.tar.gz"
    path.write_bytes(archive)
    assert main(["lakh", "--out", str(tmp_path), "--url", url]) == 0
    path.write_bytes(b"my own")
    assert main(["lakh", "--out", str(tmp_path), "--url", url]) == 2
    assert "must be the published file" in capsys.readouterr().err
    assert path.read_bytes() == b"my own"
    assert requests == []


def test_a_mirror_with_another_file_is_refused(mirror, tmp_path, monkeypatch, capsys):
    url, _ = mirror
    wrong = lakh.PublishedArchive("lmd_full.tar.gz", lakh.FULL.size, "0" * 64)
    monkeypatch.setattr(lakh, "FULL", wrong)
    assert main(["lakh", "--out", str(tmp_path), "--url", url]) == 2
    assert "SHA-256" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_the_published_address_is_the_default(monkeypatch, tmp_path):
    asked = []
    monkeypatch.setattr(lakh, "download", lambda url, path, sha256, size: asked.append((url, path, sha256, size)))
    monkeypatch.setattr(lakh, "check_members", lambda path: lakh.MemberCounts(0, 0, lakh.Rejects()))
    assert main(["lakh", "--matched", "--out", str(tmp_path)]) == 0
    address = "http://hog.ee.columbia.edu/craffel/lmd/lmd_matched.tar.gz"
    assert asked == [(address, tmp_path / "lmd_matched.tar.gz", lakh.MATCHED.sha256, 1_407_072_670)]

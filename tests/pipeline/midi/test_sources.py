"""Folders and archives of MIDI files, well-meant and not."""

import gzip
import io
import os
import random
import sys
import tarfile
import tracemalloc
from pathlib import Path

import pytest

from data_specs.errors import UserError
from data_specs.spec import Limits
from pipeline.midi import archives
from pipeline.midi.archives import Member, read_members
from pipeline.midi.sources import (
    SourceFile,
    batches,
    content_digest,
    expand_archives,
    is_midi_name,
    list_files,
    printable,
)
from pipeline.rejects import Rejected, Rejects

LIMITS = Limits(file_bytes=1000)
FILES = {"b.mid": b"two", "a/c.MIDI": b"three", "a/d e.Kar": b"", "z.mid": b"two"}


def write_folder(root: Path, files: dict[str, bytes] = FILES) -> Path:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return root


def tar_bytes(files: dict[str, bytes] = FILES, form: int = tarfile.PAX_FORMAT, extra=()) -> bytes:
    """A tar of `files` and of the members `extra`."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=form, errors="surrogateescape") as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
        for info in extra:
            tar.addfile(info)
    return buffer.getvalue()


def member(name: str, kind: bytes, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type = kind
    info.linkname = target
    return info


def collect(midi: Path | str) -> tuple[dict[str, bytes], Rejects]:
    rejects = Rejects()
    files = expand_archives(list_files(str(midi), rejects), str(midi), LIMITS, rejects)
    return {file.name: file.read(LIMITS.file_bytes) for file in files}, rejects


def archive(tmp_path: Path, content: bytes) -> Path:
    path = tmp_path / "songs.tar"
    path.write_bytes(content)
    return path


# --- folders


def test_a_folder_is_listed_in_order_with_all_it_passes_over_counted(tmp_path):
    write_folder(tmp_path / "songs", FILES | {"notes.txt": b"", "a/._mid": b""})
    found, rejects = collect(tmp_path / "songs")
    assert list(found) == ["a/c.MIDI", "a/d e.Kar", "b.mid", "z.mid"]
    assert found == FILES
    assert rejects.to_json() == {"not a MIDI file name": {"count": 2, "examples": ["a/._mid", "notes.txt"]}}


def test_links_may_not_leave_the_folder(tmp_path):
    root = write_folder(tmp_path / "songs")
    secret = write_folder(tmp_path / "secret", {"s.mid": b"secret"})
    (root / "inside.mid").symlink_to("b.mid")
    (root / "outside.mid").symlink_to(secret / "s.mid")
    (root / "up.mid").symlink_to("../secret/s.mid")
    (root / "dir out").symlink_to(secret)
    (root / "loop").symlink_to(".")
    (root / "gone.mid").symlink_to("nowhere.mid")
    found, rejects = collect(root)
    assert found == FILES | {"inside.mid": b"two"}
    assert rejects.counts == {"link out of the folder": 3, "link to a folder": 1, "broken link": 1}


def test_the_folder_itself_may_be_a_link(tmp_path):
    write_folder(tmp_path / "songs")
    (tmp_path / "link").symlink_to("songs")
    assert collect(tmp_path / "link") == collect(tmp_path / "songs")


def test_pipes_are_not_opened(tmp_path):
    root = write_folder(tmp_path / "songs")
    os.mkfifo(root / "pipe.mid")
    found, rejects = collect(root)
    assert found == FILES
    assert rejects.counts == {"not a regular file": 1}
    with pytest.raises(Rejected, match="not a regular file"):
        SourceFile("pipe.mid", path=str(root / "pipe.mid")).read(9)


def test_files_that_go_or_grow_after_the_listing_are_rejected(tmp_path):
    (tmp_path / "large.mid").write_bytes(bytes(1001))
    for name, reason in [("gone.mid", "unreadable file"), ("large.mid", "file too large")]:
        with pytest.raises(Rejected) as caught:
            SourceFile(name, path=str(tmp_path / name)).read(1000)
        assert caught.value.reason == reason
    assert len(SourceFile("large.mid", path=str(tmp_path / "large.mid")).read(1001)) == 1001


@pytest.mark.skipif(sys.platform == "darwin", reason="file names are UTF-8 there")
def test_names_that_are_not_utf_8_are_escaped_and_still_found(tmp_path):
    (tmp_path / "songs").mkdir()
    with open(os.path.join(os.fsencode(tmp_path / "songs"), b"caf\xe9\n.mid"), "wb") as file:
        file.write(b"x")
    found, _ = collect(tmp_path / "songs")
    assert found == {"caf\\xe9\\n.mid": b"x"}


def test_printable_names():
    assert printable("né😀.mid") == "né😀.mid"
    assert printable("a\x1b[31m\u202eb") == "a\\x1b[31m\\u202eb"
    printable("\udcff").encode("utf-8")


# --- archives


@pytest.mark.parametrize("form", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT])
@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_an_archive_gives_what_the_folder_gives(tmp_path, form, pack):
    found, rejects = collect(archive(tmp_path, pack(tar_bytes(form=form))))
    assert found == collect(write_folder(tmp_path / "songs"))[0] == FILES
    assert rejects.total == 0


@pytest.mark.parametrize("form", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
def test_long_and_foreign_names(tmp_path, form):
    files = {"long/" * 60 + "x.mid": b"1", "caf\udce9.mid": b"2", "né.mid": b"3", "short.mid": b"4"}
    found, _ = collect(archive(tmp_path, tar_bytes(files, form)))
    assert found == {"long/" * 60 + "x.mid": b"1", "caf\\xe9.mid": b"2", "né.mid": b"3", "short.mid": b"4"}


def test_tricks_are_counted_and_nothing_is_written(tmp_path):
    content = tar_bytes(
        {
            "/etc/a.mid": b"1",
            "../b.mid": b"2",
            "x/../c.mid": b"3",
            "large.mid": bytes(1001),
            "t.txt": b"",
            "ok.mid": b"6",
        },
        extra=[
            member("sym.mid", tarfile.SYMTYPE, "/etc/passwd"),
            member("hard.mid", tarfile.LNKTYPE, "ok.mid"),
            member("dev.mid", tarfile.CHRTYPE),
            member("pipe.mid", tarfile.FIFOTYPE),
            member("folder.mid", tarfile.DIRTYPE),
        ],
    )
    path = archive(tmp_path, content)
    found, rejects = collect(path)
    assert found == {"ok.mid": b"6"}
    assert rejects.counts == {
        "path leaves the archive": 3,
        "file too large": 1,
        "not a MIDI file name": 1,
        "link in archive": 2,
        "special file in archive": 2,
    }
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_a_cut_archive_is_one_sentence_wherever_it_is_cut(tmp_path, pack):
    whole = pack(tar_bytes())
    end = whole.rstrip(b"\0") if pack is bytes else whole
    for size in range(0, len(end), 7):
        with pytest.raises(UserError, match=r"cut short|must be a folder|holds no"):
            collect(archive(tmp_path, whole[:size]))


def test_a_damaged_archive_gives_a_sentence_or_files_and_never_another_error(tmp_path):
    rng = random.Random(5)
    whole = tar_bytes(FILES | {"long/" * 60 + "x.mid": b"1", "né.mid": b"2"})
    for _ in range(400):
        data = bytearray(whole)
        for _ in range(rng.randrange(1, 6)):
            data[rng.randrange(len(data))] = rng.choice([0, 0x30, 0x37, 0x80, 0xFF, rng.randrange(256)])
        path = archive(tmp_path, bytes(data))
        try:
            assert all(isinstance(each, Member) for each in read_members(path, 1000))
        except UserError as error:
            assert "damaged or cut short" in str(error)  # noqa: PT017


def test_extended_headers_are_bounded(tmp_path):
    header = member("x", tarfile.XHDTYPE)
    header.size = 8 << 30
    with pytest.raises(UserError, match="extended header of 8589934592 bytes"):
        list(read_members(archive(tmp_path, header.tobuf(tarfile.GNU_FORMAT)), 1000))


@pytest.mark.parametrize(
    "header", [b"9999999999999999 path=a\n", b"-5 a=b\n", b"3 a\n", b"12 path=abcdefgh\n", b"junk"]
)
def test_bad_pax_records_are_refused(tmp_path, header):
    info = member("x", tarfile.XHDTYPE)
    info.size = len(header)
    block = info.tobuf(tarfile.USTAR_FORMAT) + header + bytes(-len(header) % 512)
    with pytest.raises(UserError, match="extended header"):
        list(read_members(archive(tmp_path, block + tar_bytes()), 1000))


def test_sparse_archives_are_refused(tmp_path):
    with pytest.raises(UserError, match="--sparse"):
        list(read_members(archive(tmp_path, tar_bytes(extra=[member("s.mid", tarfile.GNUTYPE_SPARSE)])), 1000))


def test_bombs_are_refused_in_constant_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "_FREE_BYTES", 1 << 22)
    info = member("zeros.mid", tarfile.REGTYPE)
    info.size = 1 << 40
    bomb = gzip.compress(info.tobuf(tarfile.GNU_FORMAT) + bytes(1 << 26))
    tracemalloc.start()
    with pytest.raises(UserError, match="300 times its size"):
        list(read_members(archive(tmp_path, bomb), 1000))
    assert tracemalloc.get_traced_memory()[1] < 1 << 23
    tracemalloc.stop()


def test_data_behind_the_end_mark_are_not_passed_over(tmp_path):
    with pytest.raises(UserError, match="follow its end mark"):
        collect(archive(tmp_path, tar_bytes() + tar_bytes()))


# --- what is no source


def test_sources_that_are_none(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "song.mid").write_bytes(b"MThd")
    (tmp_path / "words.tar").write_bytes(b"words" * 300)
    (tmp_path / "only text").mkdir()
    (tmp_path / "only text" / "a.txt").touch()
    for name, message in {
        "missing": "neither a folder nor an archive",
        "empty": "holds no readable .mid, .midi, .kar, .rmi file",
        "only text": "holds no readable",
        "song.mid": "must be a folder, a tar or a zip",
        "words.tar": "must be a folder, a tar or a zip",
    }.items():
        with pytest.raises(UserError, match=message):
            collect(tmp_path / name)
    with pytest.raises(UserError, match="holds no readable"):
        collect(archive(tmp_path, tar_bytes({})))


# --- small things


def test_midi_names():
    assert all(map(is_midi_name, ["a.mid", "a.MID", "b.Midi", "c.kar", "d.rmi"]))
    assert not any(map(is_midi_name, ["a.mid.gz", "mid", "a.midx", "a.rm"]))


def test_a_song_is_known_by_its_bytes():
    assert content_digest(b"abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_batches_bound_files_and_bytes():
    by_path = [SourceFile(str(n), path="x") for n in range(7)]
    assert [len(batch) for batch in batches(by_path, 3)] == [3, 3, 1]
    heavy = [SourceFile(str(n), content=bytes(30 << 20)) for n in range(5)]
    assert [len(batch) for batch in batches(heavy, 300)] == [2, 2, 1]
    assert [file.name for batch in batches(heavy, 300) for file in batch] == list("01234")

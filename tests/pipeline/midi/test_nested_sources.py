"""Zip archives, archives within folders and archives, and folders of links into a store."""

import gzip
import io
import stat
import zipfile

import pytest

from data_specs.errors import UserError
from pipeline.midi import archives
from tests.pipeline.midi.test_sources import FILES, archive, collect, tar_bytes, write_folder


def zip_bytes(files=FILES, method=zipfile.ZIP_DEFLATED):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as made:
        for name, content in files.items():
            made.writestr(name, content)
    return buffer.getvalue()


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_zip_gives_what_the_folder_gives(tmp_path, method):
    found, rejects = collect(archive(tmp_path, zip_bytes(method=method)))
    assert found == FILES
    assert rejects.total == 0


def test_members_of_a_zip_that_are_not_read_are_counted(tmp_path):
    content = zip_bytes({"/a.mid": b"1", "../b.mid": b"2", "large.mid": bytes(1001), "t.txt": b"", "ok.mid": b"6"})
    buffer = io.BytesIO(content)
    with zipfile.ZipFile(buffer, "a") as made:
        link = zipfile.ZipInfo("link.mid")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        made.writestr(link, "/etc/passwd")
    found, rejects = collect(archive(tmp_path, buffer.getvalue()))
    assert found == {"ok.mid": b"6"}
    assert rejects.counts == {
        "path leaves the archive": 2,
        "file too large": 1,
        "not a MIDI file name": 1,
        "link in archive": 1,
    }


def test_a_damaged_zip_gives_a_sentence_or_rejects(tmp_path):
    whole = zip_bytes()
    for size in range(4, len(whole), 9):
        with pytest.raises(UserError, match=r"cut short|holds no"):
            collect(archive(tmp_path, whole[:size]))
    for place in range(0, len(whole), 5):
        damaged = bytearray(whole)
        damaged[place] ^= 0x5A
        try:
            found, _ = collect(archive(tmp_path, bytes(damaged)))
        except UserError:
            continue
        assert set(found.values()) <= set(FILES.values())


@pytest.mark.parametrize("inner", [tar_bytes, zip_bytes, lambda files: gzip.compress(tar_bytes(files))])
@pytest.mark.parametrize("outer", [tar_bytes, zip_bytes])
def test_archives_within_archives_are_read(tmp_path, inner, outer):
    packed = inner({"x.mid": b"x", "t.txt": b""})
    suffix = ".zip" if packed.startswith(b"PK") else ".tar"
    found, rejects = collect(archive(tmp_path, outer({f"in{suffix}": packed, "y.mid": b"y"})))
    assert found == {f"in{suffix}/x.mid": b"x", "y.mid": b"y"}
    assert rejects.counts == {"not a MIDI file name": 1}


def test_nesting_is_bounded_and_damage_inside_costs_only_the_inner_archive(tmp_path):
    deep = tar_bytes({"x.mid": b"x"})
    for _ in range(archives.NESTING + 1):
        deep = tar_bytes({"in.tar": deep})
    found, rejects = collect(archive(tmp_path, tar_bytes({"deep.tar": deep, "bad.tar": b"bad" * 400, "y.mid": b"y"})))
    assert found == {"y.mid": b"y"}
    assert rejects.counts == {"archive nested too deeply": 1, "damaged archive in archive": 1}


def test_archives_in_a_folder_are_read(tmp_path):
    root = write_folder(tmp_path / "songs", {"a.mid": b"a", "more/b.zip": zip_bytes({"c.mid": b"c"})})
    assert collect(root)[0] == {"a.mid": b"a", "more/b.zip/c.mid": b"c"}


def test_links_of_a_hub_snapshot_are_followed_and_no_others(tmp_path):
    repository = write_folder(tmp_path / "hub", {"blobs/abc": b"song", "secret": b"secret"})
    snapshot = repository / "snapshots" / "1" / "midi"
    snapshot.mkdir(parents=True)
    (snapshot / "a.mid").symlink_to("../../../blobs/abc")
    (snapshot / "b.mid").symlink_to("../../../secret")
    for midi in (snapshot, snapshot.parent):
        found, rejects = collect(midi)
        assert list(found.values()) == [b"song"]
        assert rejects.counts == {"link out of the folder": 1}


def test_a_folder_without_midi_files_reports_what_was_found(tmp_path):
    root = write_folder(tmp_path / "songs", {"a.txt": b"", "b.txt": b""})
    (root / "c.mid").symlink_to(tmp_path / "elsewhere.mid")
    with pytest.raises(UserError, match=r"found: 1 x link out of the folder, 2 x not a MIDI file name"):
        collect(root)

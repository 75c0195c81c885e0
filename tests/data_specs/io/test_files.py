"""Files appear whole or not at all; nothing is deleted."""

import errno

import pytest

from data_specs.errors import UserError
from data_specs.io.files import atomic_write, move_aside, value_digest, write_bytes, write_json


def test_a_failed_write_keeps_the_old_file_and_leaves_nothing(tmp_path):
    path = tmp_path / "a" / "file"
    write_bytes(path, b"old")
    with pytest.raises(ValueError), atomic_write(path) as file:
        file.write(b"new")
        raise ValueError
    assert path.read_bytes() == b"old"
    assert list(path.parent.iterdir()) == [path]


def test_a_full_disk_is_one_sentence(tmp_path):
    with pytest.raises(UserError, match="no space is left"), atomic_write(tmp_path / "file"):
        raise OSError(errno.ENOSPC, "full")
    assert not list(tmp_path.iterdir())


def test_json_is_the_same_bytes_for_any_order_of_keys(tmp_path):
    write_json(tmp_path / "a", {"x": 1, "y": [2]})
    write_json(tmp_path / "b", {"y": [2], "x": 1})
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert value_digest({"x": 1, "y": 2}) == value_digest({"y": 2, "x": 1}) != value_digest({"y": 2, "x": 2})


def test_moving_aside_never_overwrites(tmp_path):
    for content in ("first", "second"):
        (tmp_path / "PVT-cqt").mkdir()
        (tmp_path / "PVT-cqt" / content).touch()
        move_aside(tmp_path / "PVT-cqt")
    assert (tmp_path / "PVT-cqt.old-1" / "first").exists()
    assert (tmp_path / "PVT-cqt.old-2" / "second").exists()

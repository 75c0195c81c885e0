"""Processes without HOME and without an entry in the passwd file."""

import os
import pwd
import tempfile
from pathlib import Path

import pytest

from data_specs.home import ensure_home
from data_specs.io.download import CACHE_VARIABLE, cache_folder


@pytest.fixture
def nobody(monkeypatch, tmp_path):
    """A user id without a name; temporary files below `tmp_path`."""

    def unknown(uid):
        raise KeyError(uid)

    monkeypatch.setattr(pwd, "getpwuid", unknown)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    for name in ("HOME", "USER", "LOGNAME", "XDG_CACHE_HOME", CACHE_VARIABLE):
        monkeypatch.setenv(name, "")  # so that the value of before comes back
        monkeypatch.delenv(name)


def test_a_private_temporary_folder_takes_the_place_of_a_missing_home(nobody, tmp_path):
    ensure_home()
    assert Path.home().parent == tmp_path
    assert Path.home().stat().st_mode & 0o777 == 0o700
    assert os.environ["USER"] == f"uid{os.getuid()}"
    home = Path.home()
    ensure_home()
    assert Path.home() == home


def test_a_folder_that_others_can_write_is_not_taken(nobody, tmp_path):
    (tmp_path / f"pvt-audio-uid{os.getuid()}").mkdir(mode=0o777)
    (tmp_path / f"pvt-audio-uid{os.getuid()}").chmod(0o777)
    ensure_home()
    assert Path.home() != tmp_path / f"pvt-audio-uid{os.getuid()}"
    assert Path.home().parent == tmp_path


def test_downloads_have_a_folder_without_a_home(nobody, tmp_path):
    assert cache_folder().is_relative_to(tmp_path)


def test_a_home_is_kept(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    ensure_home()
    assert Path.home() == tmp_path

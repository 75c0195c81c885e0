"""Locks refuse a second process and end with their holder, on file systems with and without flock."""

import errno
import fcntl
import multiprocessing
import os
import socket
import threading
import time

import pytest

from data_specs.errors import UserError
from data_specs.io.locks import locked


@pytest.fixture(params=["flock", "ENOSYS", "ENOLCK", "EOPNOTSUPP"])
def kind(request, monkeypatch):
    """The kernel's locks, and file systems that answer flock with an error."""
    if request.param != "flock":

        def refuse(file, operation):
            raise OSError(getattr(errno, request.param), request.param)

        monkeypatch.setattr(fcntl, "flock", refuse)
    return request.param


def hold(path, ready):
    with locked(path, "it"):
        ready.set()
        time.sleep(60)


def test_a_lock_is_refused_while_its_process_lives_and_free_once_it_is_killed(tmp_path, kind):
    path = tmp_path / "lock"
    spawn = multiprocessing.get_context("fork")
    ready = spawn.Event()
    holder = spawn.Process(target=hold, args=(path, ready))
    holder.start()
    ready.wait(30)
    with pytest.raises(UserError, match=f"process {holder.pid} on "), locked(path, "it"):
        pass
    with pytest.raises(UserError), locked(path, "it", shared=True):
        pass
    holder.kill()
    holder.join()
    with locked(path, "it"):
        assert f"process {os.getpid()} " in path.read_text()


def test_shared_holders_agree_and_keep_others_out(tmp_path, kind):
    path = tmp_path / "lock"
    path.write_text("process 1 on a machine that has long been gone")
    with locked(path, "it", shared=True), locked(path, "it", shared=True):
        with pytest.raises(UserError, match=f"in use by process {os.getpid()} on "), locked(path, "it"):
            pass
        with pytest.raises(UserError), locked(path, "it"):
            pass


def test_a_waiting_process_takes_over_and_no_file_of_a_holder_is_left(tmp_path, kind):
    order = []

    def second():
        with locked(tmp_path / "lock", "it", wait=True):
            order.append("second")

    with locked(tmp_path / "lock", "it"):
        waiting = threading.Thread(target=second)
        waiting.start()
        time.sleep(0.1)
        order.append("first")
    waiting.join(30)
    assert order == ["first", "second"]
    assert [path.name for path in tmp_path.iterdir()] == ["lock"]


def test_without_flock_a_holder_on_another_machine_is_named_with_its_file(tmp_path, monkeypatch):
    def refuse(file, operation):
        raise OSError(errno.ENOLCK, "no locks")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with monkeypatch.context() as elsewhere:
        elsewhere.setattr(socket, "gethostname", lambda: "node.example.org")
        other = locked(tmp_path / "lock", "data/PVT-disc")
        other.__enter__()
    with pytest.raises(UserError, match=rf"process {os.getpid()} on node.example.org.*delete .*lock.exclusive"):
        with locked(tmp_path / "lock", "data/PVT-disc"):
            pass
    other.__exit__(None, None, None)
    with locked(tmp_path / "lock", "data/PVT-disc"):
        pass

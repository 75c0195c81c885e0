"""Locks between processes: the kernel's flock, or files named after their holders where a file system has no flock."""

import errno
import fcntl
import os
import random
import secrets
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, NamedTuple

from data_specs.errors import UserError
from data_specs.io.files import disk_errors

# Lustre without -o flock, NFS without lockd, some FUSE file systems.
_NO_FLOCK = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP)
_EXCLUSIVE, _SHARED = "exclusive", "shared"
_POLL_SECONDS = 0.3


@contextmanager
def locked(path: Path, what: str, *, shared: bool = False, wait: bool = False) -> Iterator[None]:
    """Hold a lock on the file `path` during the block.

    The file stays afterwards. A killed process leaves no lock behind: the kernel's ends with it, and
    without flock the next process on the same machine deletes the file of a holder that has died.

    Args:
        path: the lock's file, made when missing with its folder; names the process that locked it last.
        what: the thing guarded, for the message.
        shared: whether several processes may hold it, while none holds it exclusively.
        wait: whether to wait until it is free, instead of raising.

    Raises:
        UserError: another process holds it, named by host and process id; or the folder is not writable.
    """
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        file = open(path, "a+b")  # noqa: SIM115  (closed by the block below)
    with file, lock_open_file(file, path, what, shared=shared, wait=wait):
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}".encode())
        file.flush()
        yield


@contextmanager
def lock_open_file(
    file: IO[bytes], path: Path, what: str, *, shared: bool = False, wait: bool = False
) -> Iterator[None]:
    """Hold a lock, as `locked` does, on the open `file` at `path`, which is not written to.

    Without flock, files of holders are made beside it.

    Raises:
        UserError: another process holds it, and `wait` is false.
    """
    try:
        # promise: second-refused-name-first
        fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | (0 if wait else fcntl.LOCK_NB))
        has_flock = True
    except BlockingIOError:
        file.seek(0)
        holder = file.read(200).decode(errors="replace").strip() or "another process"
        raise UserError(f"{what} is in use by {holder}; wait for it to end or stop it") from None
    except OSError as error:
        # promise: locks-without-flock
        if error.errno not in _NO_FLOCK:
            raise
        has_flock = False
    if has_flock:
        yield
    else:
        with _locked_by_files(path, what, _SHARED if shared else _EXCLUSIVE, wait):
            yield


class _Holder(NamedTuple):
    """A file `<lock>.<mode>.<process>.<token>.<host>`, which states that a process holds a lock."""

    path: Path
    mode: str
    process: int
    host: str

    def is_alive(self) -> bool:
        """Return whether the holder runs; processes on other machines count as running.

        Deletes the file of a holder that does not run.
        """
        # promise: locks-without-flock-2
        if self.host != socket.gethostname():
            return True
        try:
            os.kill(self.process, 0)
        except ProcessLookupError:
            self.path.unlink(missing_ok=True)
            return False
        except PermissionError:  # another user's
            pass
        return True


def _holders(lock: Path) -> list[_Holder]:
    found = []
    for path in lock.parent.glob(f"{lock.name}.*"):
        mode, _, rest = path.name.removeprefix(f"{lock.name}.").partition(".")
        process, _, rest = rest.partition(".")
        if mode in (_EXCLUSIVE, _SHARED) and process.isdecimal():
            found.append(_Holder(path, mode, int(process), rest.partition(".")[2]))
    return found


@contextmanager
def _locked_by_files(lock: Path, what: str, mode: str, wait: bool) -> Iterator[None]:
    """Hold a lock by a file of this holder's name: made first, then compared with those of the others.

    If two processes try at once, each sees the other's file and deletes its own; with `wait` both try again later.

    Raises:
        UserError: another process holds it, and `wait` is false.
    """
    own = lock.with_name(f"{lock.name}.{mode}.{os.getpid()}.{secrets.token_hex(8)}.{socket.gethostname()}")
    try:
        while True:
            with disk_errors(own):
                own.touch(exist_ok=False)
            others = [one for one in _holders(lock) if one.path != own and _EXCLUSIVE in (mode, one.mode)]
            if not (others := [one for one in others if one.is_alive()]):
                break
            own.unlink()
            if not wait:
                raise UserError(
                    f"{what} is in use by process {others[0].process} on {others[0].host}; wait for it to end or stop "
                    f"it; if it has ended, delete {others[0].path}"
                )
            time.sleep(_POLL_SECONDS * (0.5 + random.random()))
        yield
    finally:
        own.unlink(missing_ok=True)

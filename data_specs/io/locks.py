"""Locks between processes: the kernel's flock, or files of holders where a file system has none."""

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
    """Hold a lock on `path` for the block; `what` names the thing guarded, for the message.

    A killed process leaves no lock behind: the kernel's dies with it, and a file of a holder that is dead is deleted.

    Args:
        path: a file that is made when missing and holds the name of its last holder.
        what: the thing guarded.
        shared: several processes may hold it, none of them exclusively.
        wait: until it is free, instead of refusing.

    Raises:
        UserError: another process holds it, named by host and process id; or its folder is not writable.
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
    """Hold a lock on the open `file` at `path`, which is not written to; see `locked`."""
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
    """A file `<lock>.<mode>.<process>.<token>.<host>` that says who holds a lock."""

    path: Path
    mode: str
    process: int
    host: str

    def is_alive(self) -> bool:
        """Return whether the holder runs, as far as this machine knows; delete its file where it does not."""
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

    Two that come at once see each other, and both step back.
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

"""A home folder for processes that have none, as in containers that run under a bare user id."""

import os
import pwd
import tempfile
from pathlib import Path


def ensure_home() -> None:
    """Set HOME in the environment if it is unset and the passwd file has no entry for the user id; set USER if unset.

    Dask, matplotlib and torch look for their settings and caches in HOME. The folder is made in the system's temporary
    folder, readable by this user id only; child processes inherit it.
    """
    try:
        name = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        name = f"uid{os.getuid()}"
        # promise: home-private-folder
        if "HOME" not in os.environ:
            os.environ["HOME"] = str(_private_folder(Path(tempfile.gettempdir()) / f"pvt-audio-{name}"))
    os.environ.setdefault("USER", name)


def _private_folder(path: Path) -> Path:
    """Make the folder `path` for this user alone and return it; make another if it belongs or is open to others."""
    path.mkdir(mode=0o700, exist_ok=True)
    found = path.lstat()
    # promise: home-private-folder-2
    if found.st_uid == os.getuid() and not found.st_mode & 0o077:
        return path
    return Path(tempfile.mkdtemp(prefix=path.name))

"""Processes of the ranks below a launcher."""

from pathlib import Path


def alive(pid):
    """Whether a process exists and is not a zombie, which nobody may have waited for."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def rank_processes(pid):
    """Processes of the ranks below `pid`, by rank."""
    found, waiting = {}, [pid]
    while waiting:
        for child in Path(f"/proc/{waiting[0]}/task/{waiting.pop(0)}/children").read_text().split():
            waiting.append(int(child))
            for variable in Path(f"/proc/{child}/environ").read_bytes().split(b"\0"):
                if variable.startswith(b"RANK="):
                    found[int(variable[5:])] = int(child)
    return found

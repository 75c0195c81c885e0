"""Several ranks on this machine, one process each: what GPUS=N does. torchrun and srun do the same in their own way."""

import ctypes
import os
import signal
import socket
import subprocess
import sys
import time
from types import FrameType

GRACE_SECONDS = 20.0  # for the other ranks, after one has failed
FORWARDED = (signal.SIGTERM, signal.SIGUSR1)  # Ctrl-C reaches the ranks from the terminal itself
PR_SET_PDEATHSIG = 1


def launched() -> bool:
    """Whether a launcher has started this process as one rank of several."""
    return "RANK" in os.environ or int(os.environ.get("SLURM_STEP_NUM_TASKS", 1)) > 1


def launch(ranks: int, command: list[str]) -> int:
    """Run `command` as `ranks` ranks and wait for them; returns the exit status of the first that failed, else 0.

    Signals are handed on. When one rank fails, the others are stopped, since they would wait for it in vain.
    """
    environment = {
        **os.environ,
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(_free_port()),
        "GLOO_SOCKET_IFNAME": os.environ.get("GLOO_SOCKET_IFNAME", "lo"),
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // ranks))),
        "WORLD_SIZE": str(ranks),
    }
    processes = [
        subprocess.Popen(
            command,
            env={**environment, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            preexec_fn=die_with_parent,  # safe, since this process has no threads
        )
        for rank in range(ranks)
    ]

    def forward(number: int, frame: FrameType | None) -> None:
        for process in processes:
            process.send_signal(number)

    before = {number: signal.signal(number, forward) for number in FORWARDED}
    before[signal.SIGINT] = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        return _wait(processes)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _wait(processes: list[subprocess.Popen[bytes]]) -> int:
    while True:
        codes = [process.poll() for process in processes]
        failed = next((code for code in codes if code), 0)
        if failed or None not in codes:
            break
        time.sleep(0.05)
    if failed:
        print(f"rank {codes.index(failed)} failed with status {failed}; stopping the others", file=sys.stderr)
        deadline = time.monotonic() + GRACE_SECONDS
        # promise: run-ends-error-within
        for process in processes:
            process.terminate()
        for process in processes:
            try:
                process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
    return failed if failed >= 0 else 128 - failed


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def die_with_parent() -> None:
    """Linux sends SIGTERM to a rank whose launcher was killed, so that none keeps a GPU for nobody."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)

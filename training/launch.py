"""Several ranks on this machine: GPUS=N starts them with torchrun."""

import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

from training.stopping import SIGNALS, STOP_FILE

PR_SET_PDEATHSIG = 1


def launch(ranks: int, run: Path, arguments: Sequence[str]) -> int:
    """Run `python -m training ARGUMENTS` as `ranks` ranks under torchrun and wait; returns the exit status.

    torchrun ends its ranks when it gets a signal or when one of them fails. A signal to this process therefore writes
    the stop file of `run` instead, so that all ranks save and stop at the same step; a second one ends torchrun.
    """
    environment = {
        **os.environ,
        "GLOO_SOCKET_IFNAME": os.environ.get("GLOO_SOCKET_IFNAME", "lo"),
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // ranks))),
    }
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}"]
    process = subprocess.Popen(
        [*torchrun, "--module", "--", "training", *arguments],
        env=environment,
        start_new_session=True,  # Ctrl-C reaches this process alone
        preexec_fn=die_with_parent,  # safe, since this process has no threads
    )
    stop = run / STOP_FILE

    def forward(number: int, frame: FrameType | None) -> None:
        if stop.exists() or not run.is_dir():
            process.terminate()
        else:
            stop.write_text(signal.Signals(number).name)

    before = {number: signal.signal(number, forward) for number in SIGNALS}
    try:
        status = process.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    # promise: run-ends-error-within
    return status if status >= 0 else 128 - status


def die_with_parent() -> None:
    """Ask Linux to send SIGTERM to this process when its parent dies, so that no rank is left on a GPU."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)

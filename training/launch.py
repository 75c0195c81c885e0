"""Start of several ranks on this machine with torchrun (GPUS=N)."""

import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

from training.stopping import STOP_FILE, handled

PR_SET_PDEATHSIG = 1


def launch(ranks: int, run: Path, arguments: Sequence[str]) -> int:
    """Run `python -m training ARGUMENTS` as `ranks` ranks under torchrun, and return the exit status.

    It is 128 plus the number of the signal if a signal ended torchrun. torchrun kills its ranks when it gets a signal.
    The first signal to this process therefore writes the stop file of `run`, so that all ranks save and stop at the
    same step. A second signal, or one before the folder `run` exists, terminates torchrun.
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
        start_new_session=True,  # Ctrl-C signals this process only
        preexec_fn=die_with_parent,  # safe, since this process has no threads
    )
    stop = run / STOP_FILE

    def forward(number: int, frame: FrameType | None) -> None:
        if stop.exists() or not run.is_dir():
            process.terminate()
        else:
            stop.write_text(signal.Signals(number).name)

    with handled(forward):
        status = process.wait()
    # promise: run-ends-error-within
    return status if status >= 0 else 128 - status


def die_with_parent() -> None:
    """Make Linux send SIGTERM to this process when its parent dies, so that no rank continues on a GPU; Linux only."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)

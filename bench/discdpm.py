"""Memory, value and time of the DiscDPM loss of this project, beside a reference with one-hot tensors."""

from collections.abc import Callable

import torch

from bench.fixtures import Context
from bench.one_hot import BATCH, chunked_and_whole, peak_bytes
from bench.table import Row, at_most, interleaved

FRAMES, SHORT = 600, 48  # of a whole clip, and of a crop that the reference can be timed on
FLOOR = 1e-4  # nats per code, added to the reference, which vanishes at the last times
REPEATS = 5
OURS, ONE_HOT = "this project", "one-hot tensors"


def rows(context: Context) -> list[Row]:
    """Return three rows of forward and backward passes of B = 4 clips: bytes, difference of values, and time.

    Bytes are counted on the meta device, without computing. The number of threads of torch is set to 1.
    """
    torch.set_num_threads(1)
    counted = chunked_and_whole(FRAMES, torch.float32, "meta")
    mine, theirs = peak_bytes(counted.ours), peak_bytes(counted.reference)
    exact = chunked_and_whole(SHORT, torch.float64)
    value, reference = exact.ours().detach(), exact.reference().detach()
    worst = float(((value - reference).abs() / (reference.abs() + FLOOR)).max())
    timed = chunked_and_whole(SHORT, torch.float32)
    timings = interleaved({OURS: lambda: _drop(timed.ours), ONE_HOT: lambda: _drop(timed.reference)}, REPEATS)
    held = f"bytes above the last hidden tensor, B = {BATCH}, {FRAMES} frames, forward and backward"
    ratio = mine / theirs
    error = "largest relative difference of a clip's loss from the reference in float64"
    loss = f"loss, B = {BATCH}, {SHORT} frames, forward and backward, one thread"
    return [
        Row(held, "MiB", mine / 2**20, ONE_HOT, theirs / 2**20, ratio, None, "ours / baseline", at_most(1 / 8)),
        Row(error, "", worst, budget=at_most(1e-5)),
        timings.row(loss, OURS, ONE_HOT),
    ]


def _drop(compute: Callable[[], object]) -> None:
    compute()

"""Time of sampling and decoding a clip of 8 s with the shipped EDM, in float32 and in bf16."""

from functools import partial

import torch

from bench.fixtures import Context
from bench.table import Row, interleaved
from training.model import TrainedModel, load_model
from training.networks.precision import Precision

SECONDS = 8
CURVES = {"version": 1, "velocity": [[0, 0.3], [SECONDS, 0.9]], "chroma": [[0, "E"], [4, "G"]]}
REPEATS = 3


def rows(context: Context) -> list[Row]:
    """Return a row of milliseconds per clip in bf16 and in float32, with default options, on one thread."""
    torch.set_num_threads(1)
    precisions: tuple[Precision, Precision] = ("bf16", "float32")
    ways = {precision: partial(_sample, load_model("edm", precision=precision)) for precision in precisions}
    timings = interleaved(ways, REPEATS)
    return [timings.row(f"sample of {SECONDS} s from the shipped EDM, one thread", *precisions)]


def _sample(model: TrainedModel) -> None:
    model.sample(CURVES, seconds=SECONDS, n=1)

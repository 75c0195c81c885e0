"""Encoding clips: EnCodec through this project and through its package, and this project's own codec.

EnCodec has random weights here, which change no figure; nothing is downloaded.
"""

import copy
import multiprocessing
from collections.abc import Callable
from multiprocessing.pool import Pool

import numpy as np
import torch
from torch import Tensor

from bench.material import Context, audio
from bench.table import Row, Timings, at_least, interleaved, times_faster
from data_specs.codecs import load_codec
from data_specs.codecs.encodec_24khz import Encodec24kHz, untrained

PART = "codec"
REPEATS = 5
PVT_CLIPS = 10  # it takes milliseconds, so several make one measurement
OURS, PACKAGE, PVT = "EnCodec, this project", "EnCodec, its package", "pvt, this project"
WORKERS = 2


def rows(context: Context) -> list[Row]:
    """Milliseconds a clip of 8 s: one thread each, then two workers beside the package as it is called by default."""
    clips = torch.from_numpy(audio(context.scratch, PVT_CLIPS))
    with torch.no_grad():
        alone, shared = one_thread(clips), two_cores(clips)
    return [
        times_faster(PART, "encode an 8 s clip with EnCodec, one thread each", alone, OURS, PACKAGE, at_least(1)),
        shared_row(shared),
        times_faster(PART, "encode an 8 s clip, one thread each", alone, PVT, PACKAGE, at_least(10)),
    ]


def one_thread(clips: Tensor) -> Timings:
    """All three on one thread."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    model = untrained()
    ours, pvt = Encodec24kHz(copy.deepcopy(model)), load_codec("pvt")
    ways: dict[str, Callable[[], int | None]] = {
        OURS: lambda: _each(ours.encode, clips[:1]),
        PACKAGE: lambda: _each(model.encoder, clips[:1]),
        PVT: lambda: _each(pvt.encode, clips),
    }
    timings = interleaved(ways, REPEATS)
    torch.set_num_threads(before)
    return timings


def two_cores(clips: Tensor) -> Timings:
    """Two processes of one thread each, as the pipeline works, beside the package on all of torch's default threads."""
    model = untrained()
    half = clips[:1].numpy()
    with multiprocessing.get_context("spawn").Pool(WORKERS, _start_worker) as pool:
        ways: dict[str, Callable[[], int | None]] = {
            OURS: lambda: _on_workers(pool, half),
            PACKAGE: lambda: _each(model.encoder, clips[:WORKERS]),
        }
        return interleaved(ways, REPEATS)


def shared_row(timings: Timings) -> Row:
    """The row of `two_cores`; processor time is of one process only and says nothing here."""
    row = times_faster(
        PART,
        f"encode an 8 s clip with EnCodec, {WORKERS} workers of one thread",
        timings,
        OURS,
        PACKAGE,
        at_least(1.5),
        note=f"the package called clip by clip on torch's default of {torch.get_num_threads()} threads",
    )
    return Row(**{**row.__dict__, "cpu_ratio": None})


def _each(encode: Callable[[Tensor], Tensor], clips: Tensor) -> int:
    for clip in clips.split(1):
        encode(clip)
    return len(clips)


_worker: list[Encodec24kHz] = []


def _start_worker() -> None:
    torch.set_num_threads(1)
    _worker.append(Encodec24kHz(untrained()))


def _encode_here(clips: np.ndarray) -> int:
    with torch.no_grad():
        return _each(_worker[0].encode, torch.from_numpy(clips))


def _on_workers(pool: Pool, clips: np.ndarray) -> int:
    return sum(pool.map(_encode_here, [clips] * WORKERS, chunksize=1))

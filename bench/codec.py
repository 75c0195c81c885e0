"""Time of encoding clips: EnCodec by this project and by its package, and the codecs of this project.

This project encodes a chunk of clips at a time, as when it builds shards; the package is called clip by clip. EnCodec
has random weights, which do not affect the time, so that nothing is downloaded.
"""

import copy
import multiprocessing
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from torch import Tensor

from bench.fixtures import Context, audio
from bench.table import Row, Timings, Work, at_least, interleaved
from data_specs.codecs import Codec, load_codec
from data_specs.codecs.encodec_24khz import Encodec24kHz, untrained
from data_specs.spec import load_spec

REPEATS = 5
OWN_CLIPS = 10  # clips per measurement of our codecs, which take milliseconds each
OURS, ALONE, PACKAGE = "EnCodec, this project", "EnCodec, this project, a clip alone", "EnCodec, its package"
OWN = {"phaseless": "phaseless, this project", "pvt": "pvt, this project"}
CODEBOOKS = 16
WORKERS = 2


def rows(context: Context) -> list[Row]:
    """Return rows of milliseconds per clip of 8 s.

    All are on one thread except one row with two workers, beside which the package runs on torch's default number of
    threads.
    """
    clips = torch.from_numpy(audio(context.scratch, OWN_CLIPS))
    with torch.no_grad():
        alone, whole, shared = one_thread(clips), there_and_back(clips), two_cores(clips)
    threads = "one thread each"
    in_two = f"encode {WORKERS} x {chunk()} clips of 8 s with EnCodec, {WORKERS} workers of one thread"
    called = f"the package called clip by clip on torch's default of {torch.get_num_threads()} threads"
    back = f"{CODEBOOKS} codebooks and back, 8 s, {threads}"
    return [
        alone.row(f"encode {chunk()} clips of 8 s with EnCodec, {threads}", OURS, PACKAGE, at_least(1)),
        alone.row(f"encode one clip of 8 s with EnCodec, {threads}", ALONE, PACKAGE, at_least(1)),
        shared.row(in_two, OURS, PACKAGE, at_least(1.5), called),
        *(
            alone.row(f"encode an 8 s clip with {name}, {threads}", own, PACKAGE, at_least(10))
            for name, own in OWN.items()
        ),
        *(whole.row(f"encode with {name}, {back}", own, PACKAGE) for name, own in OWN.items()),
    ]


def one_thread(clips: Tensor) -> Timings:
    """Time encoding by each encoder on one thread; `clips` are float32 [B, 1, N], of which EnCodec gets a part."""
    model = untrained()
    ours = Encodec24kHz(copy.deepcopy(model))
    ways: dict[str, Work] = {
        OURS: lambda: _together(ours.encode, clips[: chunk()]),
        ALONE: lambda: _each(ours.encode, clips[:1]),
        PACKAGE: lambda: _each(model.encoder, clips[:1]),
    }
    for name, own in OWN.items():
        ways[own] = partial(_each, load_codec(name).encode, clips)
    return _on_one_thread(ways)


def there_and_back(clips: Tensor) -> Timings:
    """Time encoding, quantization by CODEBOOKS codebooks and decoding of `clips` [B, 1, N] on one thread."""
    model = untrained()
    model.set_target_bandwidth(12.0)
    ways: dict[str, Work] = {PACKAGE: lambda: _each(model, clips[:1])}
    for name, own in OWN.items():
        codec = load_codec(name)
        ways[own] = partial(_each, partial(_there_and_back, codec), clips)
    return _on_one_thread(ways)


def _there_and_back(codec: Codec, clip: Tensor) -> Tensor:
    return codec.decode(codec.dequantize(codec.quantize(codec.encode(clip), CODEBOOKS)))


def _on_one_thread(ways: dict[str, Work]) -> Timings:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    timings = interleaved(ways, REPEATS)
    torch.set_num_threads(before)
    return timings


def two_cores(clips: Tensor) -> Timings:
    """Time EnCodec in two processes of one thread, as in the pipeline, and its package on torch's default threads."""
    model = untrained()
    half = clips[: chunk()].numpy()
    with multiprocessing.get_context("spawn").Pool(WORKERS, _start_worker) as pool:
        ways: dict[str, Work] = {
            OURS: lambda: sum(pool.map(_encode_here, [half] * WORKERS, chunksize=1)),
            PACKAGE: lambda: _each(model.encoder, clips[:WORKERS]),
        }
        return interleaved(ways, REPEATS, cpu_clock=None)


def chunk() -> int:
    """Return the number of clips that the spec pvt encodes together in the format encodec."""
    return load_spec("pvt").format("encodec").chunk_clips


def _together(encode: Callable[[Tensor], Tensor], clips: Tensor) -> int:
    encode(clips)
    return len(clips)


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
        return _together(_worker[0].encode, torch.from_numpy(clips))

"""GPU benchmarks: transforms beside those of other packages, training steps at published sizes."""

import copy
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from bench.cqt import nnaudio
from bench.fixtures import Context, audio, dataset
from bench.steps import PAIRS, synchronised, training_step
from bench.table import Row, Timings, at_most, interleaved
from data_specs.codecs import load_codec
from data_specs.codecs.encodec_24khz import Encodec24kHz, untrained
from data_specs.representations.cqt import Cqt
from training.config import load_config
from training.data.dataset import Dataset
from training.diffusion_task import DiffusionTask

CLIPS, REPEATS = 32, 7
CONFIG = "paper"
MEMORY_GB = 16.0  # of the GPUs of the published runs
OURS, NNAUDIO, PACKAGE = "this project", "nnAudio CQT1992v2", "EnCodec, its package"


def rows(context: Context) -> list[Row]:
    """Return rows of milliseconds per clip of the transforms, and of time and memory of steps with each `paper` config.

    Without a CUDA device, there is one row without a figure.
    """
    if not torch.cuda.is_available():
        return [Row("transforms and published sizes on a GPU", "ms", note="no CUDA device")]
    device = torch.device("cuda")
    clips = torch.from_numpy(audio(context.scratch, 4)).repeat(CLIPS // 4, 1, 1).to(device)
    trained = [row for pair in PAIRS for row in step_rows(context, *pair, device)]
    return [*transforms(clips), *trained]


def transforms(clips: Tensor) -> list[Row]:
    """Return rows of the times of CQT and encoders on the batch `clips`, float32 [B, 1, N] on a device."""
    model = untrained().to(clips.device)
    encodec, own_codec, convolution = Encodec24kHz(copy.deepcopy(model)), load_codec("phaseless"), nnaudio(clips.device)
    figure = f"of an 8 s clip, batch {len(clips)}, {device_name(clips.device)}"

    def timed(ways: dict[str, Callable[[Tensor], Tensor]]) -> Timings:
        return interleaved(
            {way: synchronised(partial(encode, clips), len(clips)) for way, encode in ways.items()}, REPEATS
        )

    with torch.no_grad():
        cqt = timed({OURS: Cqt().encode, NNAUDIO: convolution})
        codec = timed({OURS: encodec.encode, PACKAGE: model.encoder})
        own = timed({OURS: own_codec.encode, PACKAGE: model.encoder})
    return [
        cqt.row(f"CQT {figure}", OURS, NNAUDIO),
        codec.row(f"EnCodec's encoder {figure}", OURS, PACKAGE),
        own.row(f"the phaseless encoder {figure}", OURS, PACKAGE),
    ]


def step_rows(
    context: Context, paradigm: str, format_name: str, device: torch.device, config: str = CONFIG
) -> list[Row]:
    """Return a row of the time of a training step, and on a CUDA GPU one of its peak memory.

    Args:
        context: options of the benchmark.
        paradigm, format_name, config: paradigm, format and config of the training.
        device: device of the step.

    A step has one micro-batch of clips, or the whole batch if the config has no micro-batch.
    """
    data = Dataset(dataset(context.scratch, format_name))
    chosen = load_config(config, paradigm, format_name)
    share = chosen.machine.micro_batch or chosen.training.batch
    task = DiffusionTask(chosen.replaced("training", batch=share), data)
    step = training_step(task, data, device)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    timings = interleaved({OURS: synchronised(step)}, REPEATS)
    what = f"{paradigm} on {format_name}, CONFIG={config}, {share} clips of 8 s, {device_name(device)}"
    found = [Row(f"step of {what}", "ms", 1e3 * timings.seconds(OURS), note="not compiled")]
    if device.type == "cuda":
        memory = torch.cuda.max_memory_allocated() / 2**30
        found.append(Row(f"peak memory of {what}", "GiB", memory, budget=at_most(MEMORY_GB)))
    return found


def device_name(device: torch.device) -> str:
    """Return the name of a GPU, or `cpu`."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type

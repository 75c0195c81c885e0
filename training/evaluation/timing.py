"""How long sampling takes: measured on a GPU; on a CPU, a few network evaluations measured and the rest reckoned."""

import time
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from training.diffusion import PerClipNoise
from training.model import TrainedModel
from training.sampling.sampling import LARGEST_BATCH, STREAM, SamplingConfig, device_of, sample_controls, sample_count

CASES = {"8x4": (8, 4), "64x8": (64, 8)}  # clips and seconds of tables 4.1 and 4.2
PROBE_STEPS = 2


@dataclass(frozen=True)
class Inference:
    """Time to make a batch of clips with the paradigm's published number of steps."""

    seconds: float
    evaluations: int  # of the network, for one clip
    extrapolated: bool
    device: str


def inference_times(run: TrainedModel) -> dict[str, dict[str, Any]]:
    """Seconds for 8 clips of 4 s and 64 clips of 8 s, as plain values."""
    return {name: asdict(inference_time(run, clips, seconds)) for name, (clips, seconds) in CASES.items()}


@torch.inference_mode()
def inference_time(run: TrainedModel, clips: int, seconds: int) -> Inference:
    """Time to sample and decode `clips` clips of `seconds`."""
    device = device_of(run.network)
    samples = sample_count(run, seconds)
    batch = clips if device.type == "cuda" else min(clips, LARGEST_BATCH["cpu"])
    controls = free_controls(run, clips if device.type == "cuda" else batch, samples)
    evaluations = run.paradigm.evaluations()
    if device.type == "cuda":
        _probe(run, controls, samples)
        torch.cuda.synchronize(device)
        start = time.perf_counter()
        sample_controls(run, controls, samples, settings=SamplingConfig())
        return Inference(time.perf_counter() - start, evaluations, False, torch.cuda.get_device_name(device))
    sampling, decoding, probed = _probe(run, controls, samples)
    seconds_each = (sampling / probed * evaluations + decoding) / batch
    return Inference(seconds_each * clips, evaluations, True, f"CPU, {torch.get_num_threads()} threads")


def free_controls(run: TrainedModel, clips: int, samples: int) -> Tensor:
    """Controls that ask for nothing, [B, R, T]: they cost what any others cost."""
    return torch.full((clips, run.data.layout.total, run.representation.frames(samples)), -1.0)


def _probe(run: TrainedModel, controls: Tensor, samples: int) -> tuple[float, float, int]:
    """Seconds of a short trajectory, of decoding its end, and its number of network evaluations; warmed up."""
    shape, device = run.representation.shape(samples), device_of(run.network)
    controls = controls.to(device)
    for steps in (1, PROBE_STEPS):
        options = run.paradigm.options({"steps": steps})
        noise = PerClipNoise(0, list(range(len(controls))), STREAM, device)
        start = time.perf_counter()
        x = run.paradigm.sample(run.network, shape, controls, noise, options)
        middle = time.perf_counter()
        stored = run.from_model(x)
        run.representation.decode(stored.to(torch.int16) if run.scaling is None else stored)
        end = time.perf_counter()
    return middle - start, end - middle, run.paradigm.evaluations(options)

"""Time of sampling: measured on a GPU, extrapolated from a few network evaluations on a CPU."""

import time
from dataclasses import asdict, dataclass

import torch
from torch import Tensor

from data_specs.io.files import Json
from training.diffusion import PerClipNoise
from training.model import TrainedModel
from training.sampling.sampling import LARGEST_BATCH, STREAM

CASES = {"8x4": (8, 4), "64x8": (64, 8)}  # clips and seconds of tables 4.1 and 4.2
PROBE_STEPS = 2


@dataclass(frozen=True)
class Inference:
    """Time to sample and decode a batch of clips; on a CPU extrapolated from few steps and clips."""

    seconds: float
    evaluations: int  # of the network, for one clip
    extrapolated: bool
    device: str


def inference_times(model: TrainedModel) -> dict[str, Json]:
    """Return the times for 8 clips of 4 s and 64 clips of 8 s, as plain values."""
    return {name: asdict(inference_time(model, clips, seconds)) for name, (clips, seconds) in CASES.items()}


@torch.inference_mode()
def inference_time(model: TrainedModel, clips: int, seconds: int) -> Inference:
    """Return the time to sample and decode `clips` clips of `seconds`."""
    device = model.device
    samples = model.sample_count(seconds)
    batch = clips if device.type == "cuda" else min(clips, LARGEST_BATCH["cpu"])
    controls = unconditioned_controls(model, clips if device.type == "cuda" else batch, samples)
    evaluations = model.paradigm.evaluations()
    if device.type == "cuda":
        _probe(model, controls, samples)
        torch.cuda.synchronize(device)
        start = time.perf_counter()
        model.sample_controls(controls, samples)
        return Inference(time.perf_counter() - start, evaluations, False, torch.cuda.get_device_name(device))
    sampling, decoding, probed = _probe(model, controls, samples)
    seconds_each = (sampling / probed * evaluations + decoding) / batch
    return Inference(seconds_each * clips, evaluations, True, f"CPU, {torch.get_num_threads()} threads")


def unconditioned_controls(model: TrainedModel, clips: int, samples: int) -> Tensor:
    """Unconditioned controls [B, R, T]; their values do not change the time."""
    return torch.full((clips, model.data.layout.total, model.representation.frames(samples)), -1.0)


def _probe(model: TrainedModel, controls: Tensor, samples: int) -> tuple[float, float, int]:
    """Seconds of a short trajectory and of decoding it, and its network evaluations, after a warm-up."""
    shape, device = model.representation.shape(samples), model.device
    controls = controls.to(device)
    for steps in (1, PROBE_STEPS):
        options = model.paradigm.options({"steps": steps})
        noise = PerClipNoise(0, list(range(len(controls))), STREAM, device)
        start = time.perf_counter()
        x = model.paradigm.sample(model.network, shape, controls, noise, options)
        sampled = time.perf_counter()
        model.decode(x)
        end = time.perf_counter()
    return sampled - start, end - sampled, model.paradigm.evaluations(options)

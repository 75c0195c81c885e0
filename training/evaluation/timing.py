"""Seconds to sample and decode clips: measured on a CUDA GPU, extrapolated from a few sampler steps on a CPU."""

import time

import torch
from torch import Tensor

from data_specs.controls import UNCONDITIONED
from data_specs.io.files import Json
from training.diffusion import PerClipNoise
from training.model import TrainedModel
from training.sampling.sampling import LARGEST_BATCH, STREAM

CASES = {"8x4": (8, 4), "64x8": (64, 8)}  # clips and seconds of tables 4.1 and 4.2
PROBE_STEPS = 2


def inference_times(model: TrainedModel) -> dict[str, Json]:
    """Return `inference_time` of 8 clips of 4 s under the key `8x4`, and of 64 clips of 8 s under `64x8`."""
    return {name: inference_time(model, clips, seconds) for name, (clips, seconds) in CASES.items()}


@torch.inference_mode()
def inference_time(model: TrainedModel, clips: int, seconds: int) -> Json:
    """Return the time to sample and decode `clips` clips of `seconds` s with the default steps of the paradigm.

    Returns:
        `seconds`: the time in s; `evaluations`: network evaluations of one clip without guidance; `extrapolated`:
        whether the time is computed from few steps and clips, true on any device but CUDA; `device`: name of the GPU,
        or `CPU` and the number of threads.
    """
    device, samples = model.device, model.sample_count(seconds)
    on_gpu, evaluations = device.type == "cuda", model.paradigm.evaluations()
    batch = clips if on_gpu else min(clips, LARGEST_BATCH["cpu"])
    # The values of the controls do not change the time.
    controls = torch.full((batch, model.data.layout.total, model.representation.frames(samples)), UNCONDITIONED)
    sampling, decoding, probed = _probe(model, controls, samples)
    if on_gpu:
        torch.cuda.synchronize(device)
        start = time.perf_counter()
        model.sample_controls(controls, samples)
        taken, name = time.perf_counter() - start, torch.cuda.get_device_name(device)
    else:
        taken = (sampling / probed * evaluations + decoding) / batch * clips
        name = f"CPU, {torch.get_num_threads()} threads"
    return {"seconds": taken, "evaluations": evaluations, "extrapolated": not on_gpu, "device": name}


def _probe(model: TrainedModel, controls: Tensor, samples: int) -> tuple[float, float, int]:
    """Sample and decode a batch twice, with 1 step as a warm-up and with PROBE_STEPS steps, and time the second.

    Times are valid on a CPU only: on a GPU nothing waits for its kernels, so there the call is only a warm-up.

    Args:
        model: the model.
        controls: controls of the batch, float32 [B, R, T] (B clips, R control rows, T frames).
        samples: length of each clip in audio samples.

    Returns:
        Seconds of sampling, seconds of decoding, and network evaluations of one clip without guidance.
    """
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

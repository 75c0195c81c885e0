"""What a model sounds like by now: samples for the controls of fixed validation clips, as WAV and as figures.

B clips, T frames, N samples.
"""

import io
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from data_specs.io.files import write_bytes
from data_specs.viz.figures import Panel, panels_figure, png
from training.data.dataset import Dataset
from training.data.loader import BatchBuilder
from training.diffusion import PerClipNoise
from training.log import RunLog
from training.model import TrainedModel
from training.sampling.outputs import write_wav
from training.sampling.sampling import SamplingConfig, affordable_steps


def listen(model: TrainedModel, valid_data: Dataset, log: RunLog, folder: Path) -> None:
    """Write sample-<i>.wav and sample-<i>.png for the first validation clips; the real clip stands beside the sample.

    Controls, crops and noise are the same each time, so progress can be heard.

    Args:
        model: with averaged weights.
        valid_data: clips to take controls from.
        log: gets audio and figures for TensorBoard.
        folder: made if need be.
    """
    clips = min(len(valid_data), model.config.logging.listen_clips)
    if not clips:
        return
    real = BatchBuilder(valid_data, model.config.training, clips).valid(np.arange(clips))
    with torch.no_grad():
        sounds = model.representation.decode(sampled(model, real.data, real.controls, real.positions.tolist()))
        originals = model.representation.decode(real.data)
    from PIL import Image

    for index in range(clips):
        audio, original = sounds[index].clamp(-1, 1).cpu(), originals[index].clamp(-1, 1).cpu()
        write_wav(folder / f"sample-{index}.wav", audio[0], model.data.sample_rate)
        write_wav(folder / f"real-{index}.wav", original[0], model.data.sample_rate)
        picture = _picture({"sample": audio[0].numpy(), "real": original[0].numpy()}, real.controls[index], model)
        write_bytes(folder / f"sample-{index}.png", picture)
        log.sound(f"sample/{index}", audio, model.data.sample_rate, model.step)
        log.figure(f"sample/{index}", np.asarray(Image.open(io.BytesIO(picture))), model.step)


def sampled(model: TrainedModel, data: Tensor, controls: Tensor, indices: list[int]) -> Tensor:
    """Samples of the shape of `data` [B, *shape] for `controls` [B, N, T], as stored data on the CPU."""
    device = next(model.network.parameters()).device
    options = SamplingConfig(affordable_steps(model)).of(model)
    noise = PerClipNoise(model.config.training.seed, indices, "listen", device)
    x = model.paradigm.sample(model.network, tuple(data.shape[1:]), controls.to(device), noise, options)
    return model.from_model(x).cpu()


def _picture(sounds: dict[str, np.ndarray], controls: Tensor, model: TrainedModel) -> bytes:
    """Sounds side by side above the curves that both belong to, as PNG."""
    rows = {name: values[0].numpy() for name, values in model.data.layout.split(controls[None].cpu()).items()}
    arrays = {name: values[0] if len(values) == 1 else values for name, values in rows.items()}
    panels = [Panel(name, audio, arrays, model.data.hop) for name, audio in sounds.items()]
    return png(panels_figure(panels, model.data.instruments, f"step {model.step}"))

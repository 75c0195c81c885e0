"""Samples of a model in training as WAV files and figures, with the controls of fixed validation clips."""

import io
from pathlib import Path

import numpy as np
import torch

from data_specs.io.files import write_bytes
from data_specs.viz.figures import Panel, panels_figure, png
from training.data.dataset import Dataset
from training.data.loader import BatchBuilder
from training.log import RunLog
from training.model import TrainedModel
from training.sampling.outputs import write_wav
from training.sampling.sampling import SamplingConfig, default_steps


def log_samples(model: TrainedModel, valid_data: Dataset, log: RunLog, folder: Path) -> None:
    """Write sample-<i>.wav, real-<i>.wav and sample-<i>.png for the first `logging.listen_clips` validation clips.

    Fewer clips are written if there are fewer. Controls, crops and noise are the same at each call, so that steps can
    be compared. Audio is clipped to -1..1.

    Args:
        model: model with averaged weights.
        valid_data: validation clips, whose controls the samples follow.
        log: log that writes the samples and figures to TensorBoard.
        folder: folder of the files, created if needed.
    """
    clips = min(len(valid_data), model.config.logging.listen_clips)
    if not clips:
        return
    real = BatchBuilder(valid_data, model.config.training, clips).valid(np.arange(clips))
    samples = model.representation.samples(real.controls.shape[-1])
    config = SamplingConfig(default_steps(model.paradigm, torch.device("cpu")), seed=model.config.training.seed)
    sampled = model.sample_controls(real.controls, samples, config).clamp(-1, 1)
    with torch.no_grad():
        originals = model.representation.decode(real.data).clamp(-1, 1)
    from PIL import Image

    for index, (audio, original) in enumerate(zip(sampled, originals, strict=True)):
        write_wav(folder / f"sample-{index}.wav", audio[0], model.data.sample_rate)
        write_wav(folder / f"real-{index}.wav", original[0], model.data.sample_rate)
        rows = {name: values[0].numpy() for name, values in model.data.layout.split(real.controls[[index]]).items()}
        curves = {name: values[0] if len(values) == 1 else values for name, values in rows.items()}
        sounds = {"sample": audio[0].numpy(), "real": original[0].numpy()}
        panels = [Panel(name, sound, curves, model.data.hop) for name, sound in sounds.items()]
        picture = png(panels_figure(panels, model.data.instruments, f"step {model.step}"))
        write_bytes(folder / f"sample-{index}.png", picture)
        log.audio(f"sample/{index}", audio, model.data.sample_rate, model.step)
        log.image(f"sample/{index}", np.asarray(Image.open(io.BytesIO(picture))), model.step)

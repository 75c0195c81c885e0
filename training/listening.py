"""What a model sounds like by now: samples for the controls of fixed validation clips, as WAV and as figures.

B clips, T frames, N samples.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from training.batches import Maker
from training.diffusion import PerClipNoise
from training.log import RunLog
from training.runs import Run
from training.shards import Dataset

QUICK_STEPS = 50  # where the published sampler takes more than twice as many evaluations
MEL_BANDS = 80
FLOOR_DB = -80.0


def listen(model: Run, valid_data: Dataset, log: RunLog, folder: Path) -> None:
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
    real = Maker(valid_data, model.config.training, clips).valid(np.arange(clips))
    with torch.no_grad():
        sounds = model.representation.decode(sampled(model, real.data, real.controls, real.positions.tolist()))
        originals = model.representation.decode(real.data)
    folder.mkdir(parents=True, exist_ok=True)
    for index in range(clips):
        audio, original = sounds[index].clamp(-1, 1).cpu(), originals[index].clamp(-1, 1).cpu()
        _write_wav(folder / f"sample-{index}.wav", audio, model.data.sample_rate)
        _write_wav(folder / f"real-{index}.wav", original, model.data.sample_rate)
        image = _figure({"sample": audio[0].numpy(), "real": original[0].numpy()}, real.controls[index], model)
        image.save(folder / f"sample-{index}.png")
        log.sound(f"sample/{index}", audio, model.data.sample_rate, model.step)
        log.figure(f"sample/{index}", np.asarray(image), model.step)


def sampled(model: Run, data: Tensor, controls: Tensor, indices: list[int]) -> Tensor:
    """Samples of the shape of `data` [B, *shape] for `controls` [B, N, T], as stored data on the CPU."""
    device = next(model.network.parameters()).device
    published = model.paradigm.evaluations()
    options = model.paradigm.options({"steps": QUICK_STEPS} if published > 2 * QUICK_STEPS else {})
    noise = PerClipNoise(model.config.training.seed, indices, "listen", device)
    x = model.paradigm.sample(model.network, tuple(data.shape[1:]), controls.to(device), noise, options)
    return model.from_model(x).cpu()


def _write_wav(path: Path, audio: Tensor, sample_rate: int) -> None:
    import soundfile

    soundfile.write(path, audio[0].numpy(), sample_rate, subtype="PCM_16")


def _figure(sounds: dict[str, np.ndarray], controls: Tensor, model: Run) -> Any:
    """Mel spectrograms above the control curves on one time axis, as a PIL image."""
    import librosa
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from PIL import Image

    curves = model.data.layout.split(controls[None])
    seconds = controls.shape[-1] * model.data.hop / model.data.sample_rate
    figure = Figure(figsize=(8, 2 * (len(sounds) + 1)), layout="constrained")
    axes = figure.subplots(len(sounds) + 1, 1, sharex=True)
    mels = {
        name: librosa.feature.melspectrogram(y=audio, sr=model.data.sample_rate, n_mels=MEL_BANDS)
        for name, audio in sounds.items()
    }
    loudest = max(float(mel.max()) for mel in mels.values()) or 1.0
    for axis, (name, mel) in zip(axes, mels.items(), strict=False):
        decibels = librosa.power_to_db(mel, ref=loudest, top_db=-FLOOR_DB)
        axis.imshow(
            decibels,
            origin="lower",
            aspect="auto",
            extent=(0, seconds, 0, MEL_BANDS),
            vmin=FLOOR_DB,
            vmax=0,
            cmap="magma",
        )
        axis.set_ylabel(f"{name}\nmel band")
    times = (np.arange(controls.shape[-1]) + 0.5) * model.data.hop / model.data.sample_rate
    for name, rows in curves.items():
        for row, values in enumerate(rows[0].numpy()):
            label = name if len(rows[0]) == 1 else model.data.instruments[row]
            axes[-1].plot(times, values, linewidth=1.2, label=label, linestyle="-" if len(rows[0]) == 1 else ":")
    axes[-1].set(ylim=(-0.05, 1.05), xlabel="time (s)", ylabel="control")
    axes[-1].legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False, fontsize=8)
    axes[0].set_title(f"step {model.step}")
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3])

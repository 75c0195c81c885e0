"""Validation clips of a codec in training as WAV files and figures: original, from latents, from codes."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from data_specs.io.files import write_bytes
from data_specs.viz.figures import Panel, panels_figure, png
from training.codec.run import CodecRun
from training.data.dataset import Clip, Dataset
from training.log import RunLog
from training.sampling.outputs import write_wav


@torch.no_grad()
def log_samples(run: CodecRun, valid_data: Dataset, log: RunLog, folder: Path) -> None:
    """Write audio and a figure of the first `logging.listen_clips` validation clips, or of all if there are fewer.

    Files of clip i are original-<i>.wav, latents-<i>.wav (decoded from latents), codes-<i>.wav (decoded from codes,
    only if the codebooks are set) and clip-<i>.png.

    Args:
        run: codec with averaged weights.
        valid_data: validation split of a PVT-audio dataset.
        log: log that writes the same audio, clipped to -1..1, to TensorBoard.
        folder: folder of the files, created if needed.
    """
    codec, rate = run.codec(), run.data.sample_rate
    for index in range(min(len(valid_data), run.config.logging.listen_clips)):
        clip = valid_data[index]
        stored = clip["data"].float()
        latents = codec.encode(stored[None])
        sounds = {"original": stored[0], "latents": codec.decode(latents)[0, 0]}
        if run.network.quantizer.initialized:
            codes = codec.quantize(latents, codec.max_codebooks)
            sounds["codes"] = codec.decode(codec.dequantize(codes))[0, 0]
        for name, audio in sounds.items():
            write_wav(folder / f"{name}-{index}.wav", audio, rate)
            log.audio(f"{name}/{index}", audio[None].clamp(-1, 1), rate, run.step)
        write_bytes(folder / f"clip-{index}.png", _picture(sounds, clip, valid_data, run.step))


def _picture(sounds: dict[str, Tensor], clip: Clip, data: Dataset, step: int) -> bytes:
    """Return a PNG with a panel for each of `sounds` (audio [N] by name): spectrogram and controls of the clip."""
    controls = {name: np.asarray(clip[name]) for name in ("velocity", "chroma", "instruments")}
    panels = [Panel(name, audio.clamp(-1, 1).numpy(), controls, data.info.hop) for name, audio in sounds.items()]
    return png(panels_figure(panels, data.info.spec.instrument_names, f"step {step}"))

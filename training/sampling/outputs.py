"""What sampling leaves behind: WAV, the controls, a figure for each sample, and grids with one feature left free.

R control rows, T frames, N samples.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from data_specs.controls import CONTROLS
from data_specs.controls.curve_files import curves_value
from data_specs.controls.curves import Curves
from data_specs.io.files import atomic_write, write_bytes
from data_specs.viz.figures import Panel, panels_figure, png
from training.model import TrainedModel
from training.sampling.curve_sources import ControlSet
from training.sampling.sampling import SamplingConfig, control_rows, sample, sample_controls, sample_count


def write_samples(
    run: TrainedModel, chosen: ControlSet, folder: Path, *, seconds: float | None, n: int, settings: SamplingConfig
) -> list[Path]:
    """`n` samples that follow one set of controls, below `folder`/<name of the set>. Returns the WAV files.

    Each sample is <number>.wav with a figure <number>.png; controls.json is what they follow, in the form of a curve
    file, and real.wav the clip that the controls belong to, where there is one.
    """
    samples = sample_count(run, seconds)
    curves = fitted(chosen, samples)
    found = sample(run, curves, seconds=seconds, n=n, settings=settings, progress=True)
    place = folder / chosen.name
    write_bytes(place / "controls.json", (json.dumps(curves_value(curves)) + "\n").encode())
    arrays = curve_arrays(run, curves, samples)
    beside = []
    if (real := real_audio(chosen, samples)) is not None:
        write_wav(place / "real.wav", real, run.data.sample_rate)
        beside = [Panel(f"real ({chosen.real_label})", real.numpy(), arrays, run.data.hop)]
    written = []
    for number, audio in enumerate(found):
        name = f"{settings.seed}-{number:02d}"
        panel = Panel(f"{chosen.name}, sample {name}", audio[0].numpy(), arrays, run.data.hop)
        write_bytes(place / f"{name}.png", png(panels_figure([panel, *beside], run.data.instruments)))
        written.append(write_wav(place / f"{name}.wav", audio[0], run.data.sample_rate))
    return written


def write_free_grid(
    run: TrainedModel, chosen: ControlSet, folder: Path, *, seconds: float | None, settings: SamplingConfig
) -> Path:
    """One sample with all features, and one for each feature left free (report, fig. 4.3), all from the same noise.

    Returns the figure; the sounds lie beside it.
    """
    samples = sample_count(run, seconds)
    curves = fitted(chosen, samples)
    columns = {"all": curves} | {f"{name} free": curves.without(name) for name in CONTROLS if name in curves.curves}
    controls = control_rows(run, list(columns.values()), samples)
    same_noise = [0] * len(columns)
    found = sample_controls(run, controls, samples, settings=settings, indices=same_noise, progress=True)
    place = folder / chosen.name
    panels = [
        Panel(title, audio[0].numpy(), curve_arrays(run, one, samples), run.data.hop)
        for (title, one), audio in zip(columns.items(), found, strict=True)
    ]
    for title, audio in zip(columns, found, strict=True):
        write_wav(place / f"{settings.seed}-{title.replace(' ', '-')}.wav", audio[0], run.data.sample_rate)
    figure = place / f"{settings.seed}-free.png"
    write_bytes(figure, png(panels_figure(panels, run.data.instruments, chosen.name)))
    return figure


def fitted(chosen: ControlSet, samples: int) -> Curves:
    """The set's curves for a clip of `samples`: a real clip's are cut, a person's must fit as they are."""
    return chosen.curves if chosen.real is None else chosen.curves.cropped(samples)


def real_audio(chosen: ControlSet, samples: int) -> Tensor | None:
    """The clip that a set of controls belongs to, [N]: cut to `samples`, or with silence after it."""
    if chosen.real is None:
        return None
    real = chosen.real[0, :samples]
    return torch.nn.functional.pad(real, (0, samples - len(real)))


def curve_arrays(run: TrainedModel, curves: Curves, samples: int) -> Mapping[str, NDArray[np.float32]]:
    """Curves on the frames of the run's format."""
    return curves.arrays(run.data.instruments, samples, run.representation.frames(samples), run.data.hop)


def write_wav(path: Path, audio: Tensor, sample_rate: int) -> Path:
    """float [N] as a 16-bit WAV file, clipped to full scale; returns the path."""
    import soundfile

    with atomic_write(path) as file:
        soundfile.write(file, audio.clamp(-1, 1).to(torch.float32).numpy(), sample_rate, format="WAV", subtype="PCM_16")
    return path


def settings_text(run: TrainedModel, settings: SamplingConfig) -> str:
    """One line about how samples were made."""
    options: Any = settings.of(run)
    guidance = settings.guidance
    weights = (
        f"{guidance:g}" if isinstance(guidance, (int, float)) else ", ".join(f"{k}={v:g}" for k, v in guidance.items())
    )
    return f"{run.paradigm.evaluations(options)} network evaluations, guidance {weights}, seed {settings.seed}"

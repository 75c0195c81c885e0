"""Files of samples: WAV, the controls they follow, a figure of each, and grids with one feature unconditioned.

R control rows, T frames, N samples.
"""

import hashlib
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from data_specs.controls.curve_files import curves_value
from data_specs.controls.curves import Curves
from data_specs.io.files import Json, atomic_write, move_aside, write_bytes, write_json
from data_specs.level import listening_gain
from data_specs.viz.figures import Panel, panels_figure, png
from training.model import TrainedModel
from training.sampling.curve_sources import ControlSet
from training.sampling.redraw import KeptAudio, known_part, write_take
from training.sampling.sampling import SamplingConfig

RECORD = "sampling.json"  # settings of the samples in a folder


def write_samples(
    model: TrainedModel,
    chosen: ControlSet,
    folder: Path,
    *,
    samples: int,
    n: int,
    config: SamplingConfig,
    raw: bool = False,
    take: KeptAudio | None = None,
) -> list[Path]:
    """Write `n` clips of `samples` samples that follow one set of controls; returns the WAV files.

    In `folder`/<name of the set>: <seed>-<number>.wav with a figure .png of each, controls.json with the curves, and
    real.wav, the clip that the controls were taken from, if there is one. Files have listening level, with one gain for
    the set that RECORD and the comment of each WAV file state, or with `raw` the level of the model. With `take`, only
    its span is generated, and files have its level and format.
    """
    curves = fit_curves(chosen, samples)
    controls = model.stack_curves([curves], samples).expand(n, -1, -1)
    known = None if take is None else known_part(model, take.audio, take.start, take.stop, samples)
    clips = model.sample_controls(controls, samples, config, progress=True, known=known)
    place, rate, hop = folder / chosen.name, model.data.sample_rate, model.data.hop
    record: Json = {
        "samples": samples,
        "clips": n,
        "guidance": config.guidance,
        "seed": config.seed,
        "steps": config.steps,
        "raw": raw,
    }
    record = {**record, **config.options, "controls": curves_value(curves)}
    if take is not None:
        record["keep"] = {"sha256": hashlib.sha256(take.stored.tobytes()).hexdigest(), "span": [take.start, take.stop]}
    if place.exists() and _recorded(place) != record:  # files of other settings would mix with the new ones
        print(f"note: {place} holds other samples; moved to {move_aside(place)}")
    names = [f"{config.seed}-{number:02d}" for number in range(n)]
    files = [place / f"{name}.wav" for name in names]
    # Sounds first: a figure that fails costs no sample.
    if take is not None:
        gain = take.gain
        mixed = [write_take(file, take, clip[0].numpy(), rate) for file, clip in zip(files, clips, strict=True)]
        clips = torch.from_numpy(np.stack(mixed))[:, None]
    else:
        gain = 1.0 if raw else listening_gain([clip[0].numpy() for clip in clips], rate)
        for file, clip in zip(files, clips, strict=True):
            write_wav(file, clip[0], rate, gain)
    write_json(place / RECORD, {**record, "gain_db": round(20 * math.log10(gain), 2)})
    write_bytes(place / "controls.json", (json.dumps(curves_value(curves)) + "\n").encode())
    arrays = model.curve_arrays(curves, samples)
    beside = []
    if (real := real_audio(chosen, samples)) is not None:
        write_wav(place / "real.wav", real, rate, 1.0 if raw else listening_gain([real.numpy()], rate))
        beside = [Panel(f"real ({chosen.real_label})", real.numpy(), arrays, hop)]
    for name, clip in zip(names, clips, strict=True):
        panel = Panel(f"{chosen.name}, sample {name}", clip[0].numpy(), arrays, hop)
        write_bytes(place / f"{name}.png", png(panels_figure([panel, *beside], model.data.instruments)))
    return files


def _recorded(place: Path) -> Any:
    """The settings that the samples in a folder were made with; None where they are not recorded."""
    try:
        record = json.loads((place / RECORD).read_bytes())
        return {key: value for key, value in record.items() if key != "gain_db"}
    except (OSError, ValueError, AttributeError):
        return None


def write_grid(model: TrainedModel, chosen: ControlSet, folder: Path, *, samples: int, config: SamplingConfig) -> Path:
    """Write a clip with all features and one with each feature unconditioned, from the same noise (report, fig. 4.3).

    Returns the figure; the WAV files are beside it.
    """
    curves = fit_curves(chosen, samples)
    columns = {"all": curves} | {f"without {name}": curves.without(name) for name in curves.curves}
    controls = model.stack_curves(list(columns.values()), samples)
    clips = model.sample_controls(controls, samples, config, indices=[0] * len(columns), progress=True)
    place = folder / chosen.name
    panels = []
    for (title, drawn), clip in zip(columns.items(), clips, strict=True):
        write_wav(place / f"{config.seed}-{title.replace(' ', '-')}.wav", clip[0], model.data.sample_rate)
        panels.append(Panel(title, clip[0].numpy(), model.curve_arrays(drawn, samples), model.data.hop))
    figure = place / f"{config.seed}-grid.png"
    write_bytes(figure, png(panels_figure(panels, model.data.instruments, chosen.name)))
    return figure


def fit_curves(chosen: ControlSet, samples: int) -> Curves:
    """The set's curves for a clip of `samples`: those of a real clip are cropped, drawn ones stay as they are."""
    return chosen.curves if chosen.real is None else chosen.curves.cropped(samples)


def real_audio(chosen: ControlSet, samples: int) -> Tensor | None:
    """The clip of a set of controls, [N]: cropped to `samples` or padded with silence; None for drawn curves."""
    if chosen.real is None:
        return None
    real = chosen.real[0, :samples]
    return torch.nn.functional.pad(real, (0, samples - len(real)))


def write_wav(path: Path, audio: Tensor, sample_rate: int, gain: float = 1.0) -> Path:
    """Write float [N] times `gain` as a 16-bit WAV file, clipped to full scale; returns the path."""
    import soundfile

    with atomic_write(path) as file:
        with soundfile.SoundFile(file, "w", sample_rate, 1, "PCM_16", format="WAV") as wav:
            if gain != 1:
                wav.comment = f"gain {20 * math.log10(gain):+.2f} dB"
            wav.write((audio * gain).clamp(-1, 1).to(torch.float32).numpy())
    return path


def describe(model: TrainedModel, config: SamplingConfig) -> str:
    """One line about how samples are made."""
    guidance = config.guidance
    weights = ", ".join(f"{k}={v:g}" for k, v in guidance.items()) if isinstance(guidance, Mapping) else f"{guidance:g}"
    evaluations = model.paradigm.evaluations(config.resolve(model.paradigm))
    return f"{evaluations} network evaluations, guidance {weights}, seed {config.seed}"

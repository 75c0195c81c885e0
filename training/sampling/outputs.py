"""Files of samples: WAV files, their controls, figures, and grids with one control unconditioned. N audio samples."""

import hashlib
import json
import math
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
from training.diffusion.guidance import describe_weights
from training.model import TrainedModel
from training.sampling.curve_sources import ControlSet
from training.sampling.redraw import KeptAudio, known_part, write_take
from training.sampling.sampling import SamplingConfig

RECORD = "sampling.json"  # options with which the samples in a folder were made


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
    """Sample `n` clips that follow one set of controls, write them, and return the paths of the WAV files.

    The folder <folder>/<name of the set> gets <seed>-<number>.wav and .png for each clip (from 00), controls.json,
    sampling.json with the options and the gain in dB, and real.wav if the set has real audio. If the folder has samples
    of other options, it is first renamed to <name>.old-<number>, with a notice. Levels of new clips are normalized by
    one gain for all, which sampling.json and the comment of each WAV file state; real.wav has its own gain.

    Args:
        model: the model.
        chosen: set of controls.
        folder: parent folder of the output.
        samples: length of a clip in audio samples; with `take` at least that of the recording.
        n: number of clips.
        config: options of sampling.
        raw: whether to keep the level of the model, a gain of 1. With `take` it has no effect on new clips.
        take: recording of which only the span is generated, at its level and in its sample format; None to generate
            all.

    Raises:
        UserError: curves or options that do not fit the model, or `take` with a model of codes.
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
        "paradigm": model.paradigm.name,
        "trained_steps": model.step,
        "raw": raw,
    }
    record = {**record, **config.resolve(model.paradigm).model_dump(mode="json"), "controls": curves_value(curves)}
    if take is not None:
        record["keep"] = {"sha256": hashlib.sha256(take.stored.tobytes()).hexdigest(), "span": [take.start, take.stop]}
    if place.exists() and _recorded(place) != record:  # not to mix files of other options with the new ones
        print(f"note: {place} holds other samples; moved to {move_aside(place)}")
    names = [f"{config.seed}-{number:02d}" for number in range(n)]
    files = [place / f"{name}.wav" for name in names]
    # WAV files are written first, so that they are kept if a figure fails.
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
    """Read the options with which the samples in the folder `place` were made, without the gain.

    None if they are not recorded or the record cannot be read.
    """
    try:
        record = json.loads((place / RECORD).read_bytes())
        return {key: value for key, value in record.items() if key != "gain_db"}
    except (OSError, ValueError, AttributeError):
        return None


def write_grid(model: TrainedModel, chosen: ControlSet, folder: Path, *, samples: int, config: SamplingConfig) -> Path:
    """Sample a clip with all curves of a set, and one without each curve (unconditioned), all from the same noise.

    Write to <folder>/<name of the set> <seed>-all.wav, <seed>-without-<control>.wav and a figure of all clips,
    <seed>-grid.png; return the path of the figure. Levels are those of the model. `samples` is the length of a clip in
    audio samples.

    Raises:
        UserError: curves or options that do not fit the model.
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
    """Return the curves of a set, cropped to `samples` audio samples if the set has real audio, else unchanged."""
    return chosen.curves if chosen.real is None else chosen.curves.cropped(samples)


def real_audio(chosen: ControlSet, samples: int) -> Tensor | None:
    """Return the real audio of a set, [N], cropped or padded with silence to N = `samples`; None if it has none."""
    if chosen.real is None:
        return None
    real = chosen.real[0, :samples]
    return torch.nn.functional.pad(real, (0, samples - len(real)))


def write_wav(path: Path, audio: Tensor, sample_rate: int, gain: float = 1.0) -> Path:
    """Write `audio`, float [N], times `gain` (a factor) as a mono 16-bit WAV file; return the path.

    Values beyond -1..1 are clipped. A gain other than 1 is stated in dB in the comment of the file.
    """
    import soundfile

    with atomic_write(path) as file:
        with soundfile.SoundFile(file, "w", sample_rate, 1, "PCM_16", format="WAV") as wav:
            if gain != 1:
                wav.comment = f"gain {20 * math.log10(gain):+.2f} dB"
            wav.write((audio * gain).clamp(-1, 1).to(torch.float32).numpy())
    return path


def describe(model: TrainedModel, config: SamplingConfig) -> str:
    """Return one line of text with network evaluations (without those of guidance), guidance weights and seed.

    Raises:
        UserError: an option that the paradigm of the model lacks, or that is out of range.
    """
    evaluations = model.paradigm.evaluations(config.resolve(model.paradigm))
    return f"{evaluations} network evaluations, guidance {describe_weights(config.guidance)}, seed {config.seed}"

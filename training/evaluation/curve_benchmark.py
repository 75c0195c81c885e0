"""Benchmark of drawn curves: adherence of samples to 120 curve files, with confidence intervals.

An entry is a model, or a folder of WAV files with the names of the curve files. B clips, N = 96 000 audio samples (4
s).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import trange

from data_specs.controls.curve_files import read_curves
from data_specs.controls.curves import Curves
from data_specs.errors import UserError
from data_specs.io.files import Json, write_bytes, write_json
from data_specs.rates import SAMPLE_RATE
from training.evaluation.adherence import Calibration, Ratios, analyze, average, measure, measure_names
from training.evaluation.embedders.classifier import MatchedClassifier, PvtNet
from training.evaluation.evaluate import Options
from training.evaluation.evaluator import SCALE_CLIPS, ReferenceSet
from training.evaluation.features import FRAME_S
from training.evaluation.judges.measures import JUDGE_MEASURES, Judges
from training.evaluation.tables import EMPTY, markdown_table
from training.evaluation.targets import ControlTargets, control_targets
from training.model import TrainedModel, load_model
from training.runs import run_names
from training.sampling.sampling import SamplingConfig, default_steps

FOLDER = Path(__file__).parent / "benchmark_curves"
SAMPLES = 4 * SAMPLE_RATE
HOP = 320  # samples between the frames of the targets
RESAMPLES = 1000  # of the bootstrap over clips
BATCH = 8


def curve_paths() -> list[Path]:
    """Return the curve files of the benchmark in order of their names."""
    return sorted(FOLDER.glob("*.json"))


@dataclass(frozen=True)
class Score:
    """A measure over all clips, and the limits of its 95 % interval by the bootstrap over clips."""

    value: float
    low: float
    high: float


def curve_targets(curves: Curves, instruments: Sequence[str]) -> ControlTargets:
    """Return the targets of drawn curves of velocity, chroma, pitch, brightness and instruments.

    Where no chroma is drawn, it is the pitch class of the drawn pitch.

    `instruments` are the names of the instruments of the dataset, in order.

    Raises:
        UserError: a point is beyond 4 s, another control is drawn, or a drawn instrument is not among `instruments`.
    """
    frames = SAMPLES // HOP
    names = tuple(curves.curves)
    arrays = curves.arrays(instruments, SAMPLES, frames, HOP, names)
    others = ("velocity", "chroma", "brightness", "instruments")
    arrays["chroma"] = curves.for_controls(others).arrays(instruments, SAMPLES, frames, HOP, ("chroma",))["chroma"]
    return control_targets(arrays, Fraction(SAMPLE_RATE, HOP), round(SAMPLES / SAMPLE_RATE / FRAME_S))


def bootstrap(ratios: Sequence[Ratios], seed: int) -> dict[str, Score]:
    """Return the score of each measure by its name; measures that are undefined in any resample are left out.

    Args:
        ratios: measures of each clip, of one or more clips.
        seed: seed of the RESAMPLES resamples of the clips.
    """
    rng = np.random.default_rng(seed)
    picks = rng.integers(0, len(ratios), (RESAMPLES, len(ratios)))
    scores = {}
    for name in ratios[0]:
        counts = np.array([clip[name] for clip in ratios])
        top, bottom = counts[picks].sum(1).T
        if counts[:, 1].sum() and (bottom > 0).all():
            low, high = np.quantile(top / bottom, (0.025, 0.975))
            scores[name] = Score(float(counts[:, 0].sum() / counts[:, 1].sum()), float(low), float(high))
    return scores


def read_entry(path: Path, names: Iterable[str], device: str) -> Tensor | TrainedModel:
    """Return the clips in a folder of WAV files, float32 [B, 1, N], or the model at `path` if it is no such folder.

    Channels are averaged. A longer file is cropped and a shorter one padded with silence to N samples.

    Args:
        path: folder with WAV files, run folder or snapshot.
        names: names of the WAV files without suffix, which is the order of the clips.
        device: device of a model.

    Raises:
        UserError: a WAV file is missing, unreadable or of another sample rate, or there is no model.
    """
    if not (path.is_dir() and any(path.glob("*.wav"))):
        return load_model(path, device)
    files = [path / f"{name}.wav" for name in names]
    if missing := [file for file in files if not file.is_file()]:
        raise UserError(
            f"{path} must have a WAV file for each of the {len(files)} curve files of {FOLDER}, lacks {len(missing)}: "
            f"add {missing[0].name}{', ...' if len(missing) > 1 else ''}"
        )
    return torch.stack([_read_wav(file) for file in files])


def sample_curves(model: TrainedModel, curves: Mapping[str, Curves], options: Options) -> Tensor:
    """Return one clip for each of `curves` in order, float32 [B, 1, N] on the CPU.

    A drawn brightness is left out for a model without this control. Of the options, steps, guidance and seed are used.

    Raises:
        UserError: curves that do not fit the instruments or the controls of the model.
    """
    has_brightness = "brightness" in model.data.layout.names
    kept = [one if has_brightness else one.without("brightness") for one in curves.values()]
    steps = options.sampler_steps or default_steps(model.paradigm, model.device)
    config = SamplingConfig(steps, options.guidance, options.seed)
    controls = model.stack_curves(kept, SAMPLES)
    return model.sample_controls(controls, SAMPLES, config, progress=True)[..., :SAMPLES]


def _read_wav(path: Path) -> Tensor:
    import soundfile

    try:
        audio, rate = soundfile.read(path, dtype="float32", always_2d=True)
    except (OSError, soundfile.LibsndfileError) as error:
        raise UserError(
            f"{path} must be a WAV file of {SAMPLES / SAMPLE_RATE:g} s ({error}); write it again"
        ) from error
    if rate != SAMPLE_RATE:
        raise UserError(f"{path} must have a sample rate of {SAMPLE_RATE} Hz, got {rate}; resample it")
    mono = torch.from_numpy(audio.mean(1))[None, :SAMPLES]
    return torch.nn.functional.pad(mono, (0, SAMPLES - mono.shape[-1]))


def benchmark(paths: Sequence[Path], options: Options) -> Json:
    """Score entries; return a JSON object with a row for real clips and two rows for each entry.

    The row of real clips (rendered clips of PVT-audio against their own controls) shows the error of the analysis. The
    second row of an entry is its floor: the same clips against curves of another instrument and family.

    Args:
        paths: a folder of WAV files, run folder or snapshot for each entry.
        options: of these, clips, seconds, reference, published, unconditioned and vggish are not used.

    Raises:
        UserError: no path or one twice, an entry that cannot be read, audio that is not finite, no PVT-audio, or
            weights that cannot be read.
    """
    train = ReferenceSet.open(options.data, "train", SAMPLES, SCALE_CLIPS)
    valid = ReferenceSet.open(options.data, "valid", SAMPLES, len(curve_paths()))
    classifier = MatchedClassifier(PvtNet.load(options.classifier, options.device), train.labels)
    curves = {path.stem: read_curves(path) for path in curve_paths()}
    entries = {
        name: read_entry(path, curves, options.device) for name, path in zip(run_names(paths), paths, strict=True)
    }
    judges = Judges.load(options.judges, options.device)
    targets = [curve_targets(one, classifier.instruments) for one in curves.values()]
    real, real_targets = train.analyze(classifier, SCALE_CLIPS)
    calibration = Calibration.fit(real, real_targets, len(classifier.instruments))
    held, held_targets = valid.analyze(classifier, None)
    rows = [_row("real clips of PVT-audio", measure(held, held_targets, calibration), options.seed)]
    for name, entry in entries.items():
        own: list[Ratios] = []
        other: list[Ratios] = []
        audio = entry if isinstance(entry, Tensor) else sample_curves(entry, curves, options)
        shifted = targets[22:] + targets[:22]  # another family and another instrument
        for first in trange(0, len(audio), BATCH, desc=f"measure {name}", unit="batch", leave=False, disable=None):
            part = slice(first, first + BATCH)
            analysis = analyze(audio[part], classifier)
            for ratios, wanted in ((own, targets[part]), (other, shifted[part])):
                found = measure(analysis, wanted, calibration)
                judged = judges.measure(audio[part], analysis, wanted) if judges else [{} for _ in found]
                ratios += [{**ours, **theirs} for ours, theirs in zip(found, judged, strict=True)]
        families = enumerate(dict.fromkeys(curve.rpartition("-")[0] for curve in curves))
        row = _row(name, own, options.seed)
        row["families"] = {family: average(own[n * 15 : (n + 1) * 15]) for n, family in families}
        rows += [row, _row(f"{name}, other curves (floor)", other, options.seed)]
    facts = {"clips": len(curves), "seconds": SAMPLES / SAMPLE_RATE, "seed": options.seed, "notes": classifier.notes}
    return {**facts, "rows": rows}


def _row(name: str, ratios: Sequence[Ratios], seed: int) -> Json:
    return {"entry": name, "clips": len(ratios), "scores": {k: vars(s) for k, s in bootstrap(ratios, seed).items()}}


def write_benchmark(result: Mapping[str, Any], out: Path) -> str:
    """Write curves.json and curves.md to the folder `out`; return the Markdown. Existing files are replaced."""
    measures = [
        name for name in (*measure_names(), *JUDGE_MEASURES) if any(name in row["scores"] for row in result["rows"])
    ]
    headings = ["measure", *(f"{row['entry']} (N = {row['clips']})" for row in result["rows"])]
    cells = ([name.replace("_", " "), *(_cell(row["scores"].get(name)) for row in result["rows"])] for name in measures)
    text = "# Benchmark of drawn curves\n\nValue and 95 % interval (bootstrap over clips).\n\n"
    text += markdown_table(headings, cells) + "".join(f"\n{note}\n" for note in result["notes"])
    write_json(out / "curves.json", result)
    write_bytes(out / "curves.md", text.encode())
    return text


def _cell(score: Mapping[str, float] | None) -> str:
    return EMPTY if score is None else f"{score['value']:.3f} [{score['low']:.3f}, {score['high']:.3f}]"

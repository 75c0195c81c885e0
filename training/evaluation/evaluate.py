"""Evaluate trained models: one row of FAD, adherence, time and size for each, and the tables of all rows.

Generated clips follow the controls of the valid clips of PVT-audio in order; where more are asked for, the controls
repeat with other noise. B clips, N samples, T frames.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from data_specs.controls import CONTROLS, INSTRUMENTS
from data_specs.errors import UserError
from data_specs.io.files import Json, write_bytes, write_json
from training.diffusion.guidance import Weights
from training.evaluation import adherence
from training.evaluation import tables as table
from training.evaluation.embedders.classifier import WEIGHTS
from training.evaluation.evaluator import ClipMetrics, Evaluator, ReferenceSet
from training.evaluation.judges.measures import JUDGE_MEASURES
from training.evaluation.targets import ControlTargets
from training.evaluation.texture import latent_steps
from training.evaluation.timing import inference_times
from training.log import read_log
from training.model import TrainedModel, load_model
from training.networks import parameter_count
from training.runs import run_names
from training.sampling.defaults import DEFAULT_GUIDANCE
from training.sampling.sampling import SamplingConfig, default_steps


@dataclass(frozen=True)
class Preset:
    """Sizes of an evaluation."""

    clips: int
    seconds: int
    reference: int  # training clips, where there are so many


PRESETS = {"table41": Preset(2000, 4, 50_000), "table42": Preset(20_000, 8, 50_000)}
DEFAULT_PRESET, DEFAULT_CLIPS = "table41", 200


@dataclass(frozen=True, kw_only=True)
class Options:
    """Options of an evaluation.

    Attributes:
        data: PVT-audio or the folder above it.
        clips: generated clips of each model.
        seconds: of each clip.
        reference: largest number of training clips to compare with.
        sampler_steps: None for the published number, on a CPU a smaller one where that is large.
        guidance: one weight, or one by control.
        published: whether samplers are the published ones, not the defaults.
        unconditioned: controls that samples are generated without; their adherence is measured all the same.
        seed: of noise, subsets and pairings.
        device: of the networks.
        classifier: weights file of the classifier.
        vggish: file or address of VGGish's weights.
        judges: names of external judges.
    """

    data: Path
    clips: int = DEFAULT_CLIPS
    seconds: float = PRESETS[DEFAULT_PRESET].seconds
    reference: int = PRESETS[DEFAULT_PRESET].reference
    sampler_steps: int | None = None
    guidance: Weights = DEFAULT_GUIDANCE
    published: bool = False
    unconditioned: tuple[str, ...] = ()
    seed: int = 0
    device: str = "cpu"
    classifier: Path = WEIGHTS
    vggish: str | None = None
    judges: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.clips < 2:
            raise UserError(f"CLIPS must be 2 or more, got {self.clips}; 200 give a usable score")
        if unknown := [name for name in self.unconditioned if name not in CONTROLS]:
            raise UserError(f"FREE must name controls among {', '.join(CONTROLS)}, got {', '.join(unknown)}")


@dataclass
class Evaluation:
    """Rows of an evaluation and their reference."""

    rows: list[Json]
    clips: dict[str, list[Json]]  # by model, measures of every generated clip
    reference: Json


def evaluate(paths: Sequence[Path], options: Options) -> Evaluation:
    """Evaluate models (run folders or snapshots) on the same controls and references.

    Raises:
        UserError: a model that cannot be loaded, no PVT-audio, or lengths that do not fit.
    """
    names = run_names(paths)
    models = [load_model(path, options.device) for path in paths]
    for model in models:
        for control in (*options.unconditioned, *(options.guidance if isinstance(options.guidance, Mapping) else ())):
            model.data.layout.slice(control)  # raises for a control that the model lacks
    samples = [model.sample_count(options.seconds) for model in models]
    train = ReferenceSet.open(options.data, "train", samples[0], options.reference)
    for path, model in zip(paths, models, strict=True):
        check_reference(model, train, path)
    evaluator = Evaluator.prepare(
        options.data,
        samples[0],
        classifier=options.classifier,
        vggish=options.vggish,
        reference=options.reference,
        anchor_clips=options.clips,
        judges=options.judges,
        seed=options.seed,
        device=options.device,
    )
    result = Evaluation([], {}, evaluator.reference_facts())
    ceilings: dict[str, Json] = {}
    for name, path, model in zip(names, paths, models, strict=True):
        label = model.representation.label
        if label not in ceilings:
            ceilings[label] = ceiling(model, evaluator, options.clips)
        published = dict(model.paradigm.published) if options.published else {}
        steps = options.sampler_steps or default_steps(model.paradigm, model.device)
        settings = SamplingConfig(steps, options.guidance, options.seed, published)
        steps_taken = LatentSteps(model, evaluator)
        clips = generate(model, evaluator, settings, options.clips, options.unconditioned)
        metrics = evaluator.measure(steps_taken.watch(clips))
        ids = [f"{number:05d}" for number in range(options.clips)]
        result.clips[name] = adherence.to_json(metrics.ratios, ids)
        row = {**describe_model(name, path, model), **scores(metrics, evaluator), "ceiling": ceilings[label]}
        row["latent_steps"] = steps_taken.ratio
        row["samples"] = {
            "clips": options.clips,
            "seconds": options.seconds,
            "evaluations": model.paradigm.evaluations(settings.resolve(model.paradigm)),
            "guidance": str(options.guidance),
            "free": list(options.unconditioned),
            "seed": options.seed,
        }
        result.rows.append({**row, "inference": inference_times(model), "anchors": evaluator.anchors})
    return result


def check_reference(model: TrainedModel, reference: ReferenceSet, path: Path) -> None:
    """Raise UserError where the reference has instruments that a model does not know, or lacks its controls."""
    folder, instruments = reference.clips.folder, model.data.instruments
    if unknown := [label for label in reference.labels if label not in instruments]:
        raise UserError(
            f"{path} must know all instruments of {folder}, but lacks {', '.join(unknown)} among "
            f"{', '.join(instruments)}; give the DATA of that model"
        )
    if missing := [name for name in model.data.layout.names if name not in reference.controls]:
        raise UserError(
            f"{folder} must have the controls of {path}, but lacks {', '.join(missing)}; give the DATA of that model"
        )


def generate(
    model: TrainedModel,
    evaluator: Evaluator,
    settings: SamplingConfig,
    clips: int,
    unconditioned: Sequence[str] = (),
    start: int = 0,
) -> Iterator[tuple[Tensor, list[ControlTargets]]]:
    """Yield batches of generated clips [B, 1, N] and their targets; those of `unconditioned` controls included.

    Controls are those of the valid clips from number `start` on, repeated where more are asked for.

    Raises:
        UserError: samples that are not finite.
    """
    done = 0
    while done < clips:
        for batch in evaluator.valid.batches(clips - done, start):
            count = len(batch["data"])
            info = evaluator.valid.clips.info
            controls = model_controls(model, batch, evaluator.samples, info.hop, evaluator.valid.labels)
            controls = model.data.layout.without(controls, unconditioned)
            audio = model.sample_controls(
                controls, evaluator.samples, settings, indices=range(done, done + count), progress=True
            )
            if not bool(audio.isfinite().all()):
                raise UserError("the model's samples are not finite; train longer or with a lower learning rate")
            yield audio, evaluator.valid.targets(batch)
            done += count


def model_controls(
    model: TrainedModel, batch: dict[str, Tensor], samples: int, hop: int, labels: Sequence[str]
) -> Tensor:
    """Return a batch's controls, one every `hop` samples, on the frames of the model's format: float32 [B, R, T].

    Frame i of the model is at sample i times its hop; it takes the last control at or before that sample. Rows of
    instruments are in the order of `labels` and are matched to the model's by name.
    """
    if INSTRUMENTS in model.data.layout.names:
        batch = {**batch, INSTRUMENTS: _instrument_rows(batch[INSTRUMENTS], labels, model.data.instruments)}
    frames = torch.arange(model.representation.frames(samples))
    last = min(values.shape[-1] for name, values in batch.items() if name != "data") - 1
    at = (frames * model.data.hop // hop).clamp(max=last)
    return model.data.layout.stack({name: batch[name][..., at] for name in model.data.layout.names})


def _instrument_rows(rows: Tensor, labels: Sequence[str], instruments: Sequence[str]) -> Tensor:
    """Return rows [B, I, T] of `labels` in the order of `instruments`; those that are no label do not play."""
    absent = rows.amax(1).clamp(max=0)  # 0, or unconditioned where all labels are
    # promise: labels-model-by-name
    return torch.stack([rows[:, labels.index(name)] if name in labels else absent for name in instruments], 1)


def ceiling(model: TrainedModel, evaluator: Evaluator, clips: int) -> Json:
    """Return the scores of real valid clips encoded and decoded by the model's representation."""

    def decoded() -> Iterator[tuple[Tensor, list[ControlTargets]]]:
        for batch in evaluator.valid.batches(clips, task="decoded clips"):
            audio = model.representation.decode(model.representation.encode(batch["data"]))
            yield audio.float().cpu()[..., : evaluator.samples], evaluator.valid.targets(batch)

    metrics = evaluator.measure(decoded())
    return {
        "fad": evaluator.fad(metrics.embeddings),
        "adherence": adherence.average(metrics.ratios),
        "harmonic_to_between": by_instrument(metrics, evaluator),
    }


def by_instrument(metrics: ClipMetrics, evaluator: Evaluator) -> dict[str, float | None]:
    """Return the mean harmonic-to-between ratio of each instrument in dB; None for one without held notes."""
    sums = zip(evaluator.classifier.instruments, metrics.harmonic_to_between.tolist(), strict=True)
    return {name: total / count if count else None for name, (total, count) in sums}


class LatentSteps:
    """Frame-to-frame steps of the latents of generated clips beside those of the real clips with their controls."""

    def __init__(self, model: TrainedModel, evaluator: Evaluator) -> None:
        self.model = model
        self.evaluator = evaluator
        self.sums = np.zeros((2, 2))  # generated and real: sum and count

    def watch(
        self, clips: Iterator[tuple[Tensor, list[ControlTargets]]]
    ) -> Iterator[tuple[Tensor, list[ControlTargets]]]:
        """Yield the clips and measure those of models on latents."""
        done = 0
        for audio, targets in clips:
            if self.model.config.format == "encodec":
                self.sums[0] += latent_steps(self.model.representation.encode(audio.cpu()), targets)
                real = self.evaluator.valid.clips.gather(
                    np.arange(done, done + len(audio)) % self.evaluator.valid.count
                )["data"][..., : self.evaluator.samples].float()
                self.sums[1] += latent_steps(self.model.representation.encode(real), targets)
            done += len(audio)
            yield audio, targets

    @property
    def ratio(self) -> float | None:
        """Mean step of the generated clips over that of the real ones; None for other formats."""
        (made, made_count), (real, real_count) = self.sums.tolist()
        return (made / made_count) / (real / real_count) if made_count and real else None


def scores(metrics: ClipMetrics, evaluator: Evaluator) -> Json:
    """Return FAD, memorization check and adherence of generated clips."""
    return {
        "fad": evaluator.fad(metrics.embeddings),
        "copies": evaluator.copies(metrics.embeddings),
        "adherence": adherence.average(metrics.ratios),
        "judged": adherence.average(metrics.judged, JUDGE_MEASURES),
        "judged_real": evaluator.judged,
        "harmonic_to_between": by_instrument(metrics, evaluator),
        "notes": evaluator.classifier.notes,
    }


def describe_model(name: str, path: Path, model: TrainedModel) -> Json:
    """Return what a model is and the cost of its training."""
    batch = model.config.training.batch
    memory = [line["peak_memory_mb"] for line in training_log(path) if "peak_memory_mb" in line]
    return {
        "run": name,
        "paradigm": model.config.paradigm,
        "format": model.config.format,
        "label": model.representation.label,
        "config": model.config.name,
        "plan_digest": model.data.plan_digest,
        "parameters": parameter_count(model.network),
        "batch": batch,
        "steps": model.step,
        "clips": model.step * batch,
        "training_seconds": model.train_seconds,
        "peak_memory_mb": max(memory) if memory else None,
        "device": str(model.device),
    }


def training_log(path: Path) -> list[Json]:
    """Return the log of a run folder, or of the run that a snapshot belongs to; empty where there is none."""
    for folder in (path, *path.parents[:3]):
        if lines := read_log(folder):
            return lines
    return []


def write(evaluation: Evaluation, out: Path) -> str:
    """Write evaluation.json, .md, .csv and clips.json into `out`; returns the Markdown."""
    text = table.report(evaluation.rows)
    write_json(out / "evaluation.json", {"reference": evaluation.reference, "rows": evaluation.rows})
    write_json(out / "clips.json", evaluation.clips)
    write_bytes(out / "evaluation.csv", table.csv_text(evaluation.rows).encode())
    write_bytes(out / "evaluation.md", text.encode())
    return text

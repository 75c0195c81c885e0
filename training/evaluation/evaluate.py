"""Evaluation of trained models: a row of FAD, adherence, time and size for each, and tables of all rows.

Generated clips follow the controls of the valid clips of PVT-audio in order. If more clips are requested, the controls
are repeated with other noise. B clips, N audio samples, R control rows, T frames, I labels of instruments.
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
    """Sizes of an evaluation: number of generated clips of each model, their length in seconds, and the reference."""

    clips: int
    seconds: int
    reference: int  # largest number of training clips in the reference


PRESETS = {"table41": Preset(2000, 4, 50_000), "table42": Preset(20_000, 8, 50_000)}
DEFAULT_PRESET, DEFAULT_CLIPS = "table41", 200


@dataclass(frozen=True, kw_only=True)
class Options:
    """Options of an evaluation.

    Attributes:
        data: PVT-audio or the folder above it.
        clips: number of generated clips of each model, 2 or more.
        seconds: length of each clip, rounded up to a frame of the first model.
        reference: largest number of training clips in the reference.
        sampler_steps: steps of the sampler; None for the default (see `default_steps`).
        guidance: one weight, or one for each control by its name; 1 for no guidance.
        published: whether to use the sampler options of the publications instead of the defaults.
        unconditioned: controls that are unconditioned when sampling; adherence to them is still measured.
        seed: seed of noise, subsets and pairings.
        device: device of the networks.
        classifier: weights file of the classifier.
        vggish: file or http(s) address of the weights of VGGish; None for `$PVT_VGGISH`, else the cache folder.
        judges: names of external judges.

    Raises:
        UserError: fewer than 2 clips, or a name in `unconditioned` that is no control.
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
            raise UserError(f"CLIPS= must be an integer >= 2, got {self.clips}; use 200 or more for a reliable score")
        if unknown := [name for name in self.unconditioned if name not in CONTROLS]:
            raise UserError(f"FREE= must name controls among {', '.join(CONTROLS)}, got {', '.join(unknown)}")

    def sampling(self, model: TrainedModel) -> SamplingConfig:
        """Return the sampling config for `model`.

        Raises:
            UserError: the paradigm of the model cannot use the steps or the weights of guidance.
        """
        steps = self.sampler_steps or default_steps(model.paradigm, model.device)
        published = dict(model.paradigm.published) if self.published else {}
        config = SamplingConfig(steps, self.guidance, self.seed, published)
        config.resolve(model.paradigm)
        return config


@dataclass
class Evaluation:
    """Results of an evaluation: a row for each model, the measures of each clip, and `Evaluator.reference_facts`."""

    rows: list[Json]
    clips: dict[str, list[Json]]  # measures of every generated clip, by model
    reference: Json


def evaluate(paths: Sequence[Path], options: Options) -> Evaluation:
    """Evaluate models with the same controls and the same reference, in the order of `paths`.

    Args:
        paths: run folders or snapshots.
        options: options of all models.

    Raises:
        UserError: no path or one twice, a model that cannot be loaded, does not fit PVT-audio or lacks a control of
            `options`, no PVT-audio, weights that cannot be read, or samples that are not finite.
    """
    names = run_names(paths)
    models = [load_model(path, options.device) for path in paths]
    for model in models:
        for control in (*options.unconditioned, *(options.guidance if isinstance(options.guidance, Mapping) else ())):
            model.data.layout.slice(control)  # raises for a control that the model lacks
    configs = {name: options.sampling(model) for name, model in zip(names, models, strict=True)}
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
        steps_taken = LatentSteps(model, evaluator)
        clips = generate(model, evaluator, configs[name], options.clips, options.unconditioned)
        metrics = evaluator.measure(steps_taken.watch(clips))
        ids = [f"{number:05d}" for number in range(options.clips)]
        result.clips[name] = adherence.to_json(metrics.ratios, ids)
        row = {**describe_model(name, path, model), **scores(metrics, evaluator), "ceiling": ceilings[label]}
        row["latent_steps"] = steps_taken.ratio
        row["samples"] = {
            "clips": options.clips,
            "seconds": options.seconds,
            "evaluations": model.paradigm.evaluations(configs[name].resolve(model.paradigm)),
            "guidance": str(options.guidance),
            "free": list(options.unconditioned),
            "seed": options.seed,
        }
        result.rows.append({**row, "inference": inference_times(model), "anchors": evaluator.anchors})
    return result


def check_reference(model: TrainedModel, reference: ReferenceSet, path: Path) -> None:
    """Check that a model and the real clips have the same instruments and controls; `path` names the model in errors.

    Raises:
        UserError: the model lacks an instrument of the reference, or the reference a control of the model.
    """
    folder, instruments = reference.clips.folder, model.data.instruments
    if unknown := [label for label in reference.labels if label not in instruments]:
        raise UserError(
            f"{path} must have all instruments of {folder}, got {', '.join(instruments)} without "
            f"{', '.join(unknown)}; give the DATA= of that model"
        )
    if missing := [name for name in model.data.layout.names if name not in reference.controls]:
        raise UserError(
            f"{folder} must have the controls of {path}, but lacks {', '.join(missing)}; give the DATA= of that model"
        )


def generate(
    model: TrainedModel,
    evaluator: Evaluator,
    settings: SamplingConfig,
    clips: int,
    unconditioned: Sequence[str] = (),
    start: int = 0,
) -> Iterator[tuple[Tensor, list[ControlTargets]]]:
    """Yield batches of generated clips, float32 [B, 1, N] on the CPU, with the targets of each clip.

    Args:
        model: the model.
        evaluator: has the valid clips whose controls are used, from `start` to the last and again from `start` until
            there are enough.
        settings: how to sample; the noise of a clip depends on its number, from 0, and the seed.
        clips: number of clips.
        unconditioned: controls that are unconditioned when sampling; targets include them.
        start: number of the first valid clip, which must exist.

    Raises:
        UserError: a sample is not finite.
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
                raise UserError(
                    "samples must be finite, got inf or NaN; train longer or with a lower training.learning_rate"
                )
            yield audio, evaluator.valid.targets(batch)
            done += count


def model_controls(
    model: TrainedModel, batch: dict[str, Tensor], samples: int, hop: int, labels: Sequence[str]
) -> Tensor:
    """Convert the controls of a batch to the frames and instruments of a model: float32 [B, R, T].

    Frame i of the model, at sample i times its hop, gets the last value at or before that sample.

    Args:
        model: the model.
        batch: controls by name, with a value every `hop` samples, among them all controls of the model; `data` is
            ignored.
        samples: length of the clips in audio samples.
        hop: samples from one value to the next.
        labels: names of the rows of the control `instruments`, which are matched to those of the model.
    """
    if INSTRUMENTS in model.data.layout.names:
        batch = {**batch, INSTRUMENTS: _instrument_rows(batch[INSTRUMENTS], labels, model.data.instruments)}
    frames = torch.arange(model.representation.frames(samples))
    last = min(values.shape[-1] for name, values in batch.items() if name != "data") - 1
    at = (frames * model.data.hop // hop).clamp(max=last)
    return model.data.layout.stack({name: batch[name][..., at] for name in model.data.layout.names})


def _instrument_rows(rows: Tensor, labels: Sequence[str], instruments: Sequence[str]) -> Tensor:
    """Return the rows [B, I, T] of the instruments `labels` as rows of the instruments `instruments`, in their order.

    An instrument that is no label gets 0, or -1 at frames where all labels are unconditioned. A label that is no
    instrument is left out.
    """
    absent = rows.amax(1).clamp(max=0)  # 0, or unconditioned where all labels are
    # promise: labels-model-by-name
    return torch.stack([rows[:, labels.index(name)] if name in labels else absent for name in instruments], 1)


def ceiling(model: TrainedModel, evaluator: Evaluator, clips: int) -> Json:
    """Return the `audio_scores` of real valid clips that the representation of the model has encoded and decoded.

    They are the first `clips` valid clips, or all if there are fewer.
    """

    def decoded() -> Iterator[tuple[Tensor, list[ControlTargets]]]:
        for batch in evaluator.valid.batches(clips, task="decoded clips"):
            audio = model.representation.decode(model.representation.encode(batch["data"]))
            yield audio.float().cpu()[..., : evaluator.samples], evaluator.valid.targets(batch)

    return audio_scores(evaluator.measure(decoded()), evaluator)


def audio_scores(metrics: ClipMetrics, evaluator: Evaluator) -> Json:
    """Return FAD, adherence and the harmonic-to-between ratio of clips as a JSON object.

    The ratio is the mean over frames of held notes for each instrument, in dB; None without such frames.
    """
    sums = zip(evaluator.classifier.instruments, metrics.harmonic_to_between.tolist(), strict=True)
    return {
        "fad": evaluator.fad(metrics.embeddings),
        "adherence": adherence.average(metrics.ratios),
        "harmonic_to_between": {name: total / count if count else None for name, (total, count) in sums},
    }


class LatentSteps:
    """Measure of the steps between latent frames in held notes of generated clips, relative to real clips.

    The real clips are the valid clips whose controls the generated ones follow. Only the format encodec has latents.
    """

    def __init__(self, model: TrainedModel, evaluator: Evaluator) -> None:
        self.model = model
        self.evaluator = evaluator
        self.sums = np.zeros((2, 2))  # generated and real: sum and count

    def watch(
        self, clips: Iterator[tuple[Tensor, list[ControlTargets]]]
    ) -> Iterator[tuple[Tensor, list[ControlTargets]]]:
        """Yield the clips unchanged, and add the steps of each batch and of its real clips to `sums`.

        For a model of another format than encodec nothing is added.

        Args:
            clips: batches of all generated clips with their targets, as `generate` yields them for `start` 0.
        """
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
        """Mean step of generated clips divided by that of real clips; None for other formats or without held notes."""
        (made, made_count), (real, real_count) = self.sums.tolist()
        return (made / made_count) / (real / real_count) if made_count and real else None


def scores(metrics: ClipMetrics, evaluator: Evaluator) -> Json:
    """Return the scores of generated clips as a JSON object.

    They are those of `audio_scores`, the search for copies (`copies`), the averaged measures of external judges on
    these clips (`judged`) and on real clips (`judged_real`), and `notes` on what is not measured.
    """
    return {
        **audio_scores(metrics, evaluator),
        "copies": evaluator.copies(metrics.embeddings),
        "judged": adherence.average(metrics.judged, JUDGE_MEASURES),
        "judged_real": evaluator.judged,
        "notes": evaluator.classifier.notes,
    }


def describe_model(name: str, path: Path, model: TrainedModel) -> Json:
    """Return names, sizes, steps, device, and time and memory of the training of a model as a JSON object.

    Times are in s, memory in MB; the memory is the largest in the log, or None without it.

    Args:
        name: name of the run in tables.
        path: run folder or snapshot, from which the log is found.
        model: the model.

    Raises:
        UserError: the log has a damaged line.
    """
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
    """Return the lines of the log in folder `path`, else in the nearest of the three folders above it that has one.

    So the log of a run is also found from a snapshot in it. Empty if there is no log.

    Raises:
        UserError: the log has a damaged line.
    """
    for folder in (path, *path.parents[:3]):
        if lines := read_log(folder):
            return lines
    return []


def write(evaluation: Evaluation, out: Path) -> str:
    """Write evaluation.json, evaluation.md, evaluation.csv and clips.json to the folder `out`; return the Markdown.

    Existing files are replaced.
    """
    text = table.report(evaluation.rows)
    write_json(out / "evaluation.json", {"reference": evaluation.reference, "rows": evaluation.rows})
    write_json(out / "clips.json", evaluation.clips)
    write_bytes(out / "evaluation.csv", table.csv_text(evaluation.rows).encode())
    write_bytes(out / "evaluation.md", text.encode())
    return text

"""`make evaluate`: trained runs -> one row each, and the tables of them.

Generated clips follow the controls of the first valid clips of PVT-audio, again and again with other noise where more
are asked for. B clips, N samples, T frames.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from data_specs.controls import CONTROLS
from data_specs.errors import UserError
from data_specs.io.files import write_bytes, write_json
from training.diffusion.guidance import Weights
from training.evaluation import adherence
from training.evaluation import tables as table
from training.evaluation.embedders.classifier import WEIGHTS
from training.evaluation.evaluator import ClipMetrics, Evaluator
from training.evaluation.targets import ControlTargets
from training.evaluation.timing import inference_times
from training.log import read_log
from training.model import TrainedModel, load_model
from training.networks import parameter_count
from training.sampling.sampling import SamplingConfig, device_of, quick_steps, sample_controls, sample_count


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
    """What a user may choose.

    Attributes:
        data: PVT-audio or the folder above it.
        clips: generated clips of each run.
        seconds: of each clip.
        reference: largest number of training clips to compare with.
        sampler_steps: None takes the published number, on a CPU a smaller one where that is large.
        guidance: one weight, or one by feature.
        free: features that the clips' controls say nothing of, to see whether the others are still followed.
    """

    data: Path
    clips: int = DEFAULT_CLIPS
    seconds: float = PRESETS[DEFAULT_PRESET].seconds
    reference: int = PRESETS[DEFAULT_PRESET].reference
    sampler_steps: int | None = None
    guidance: Weights = 1.0
    free: tuple[str, ...] = ()
    seed: int = 0
    device: str = "cpu"
    classifier: Path = WEIGHTS
    vggish: str | None = None

    def __post_init__(self) -> None:
        if self.clips < 2:
            raise UserError(f"CLIPS={self.clips} cannot be judged; take 2 or more, better 200")
        if unknown := [name for name in self.free if name not in CONTROLS]:
            raise UserError(f"FREE names {', '.join(unknown)}; features that can be left free: {', '.join(CONTROLS)}")


@dataclass
class Evaluation:
    """Rows and what they share."""

    rows: list[dict[str, Any]]
    clips: dict[str, list[dict[str, Any]]]  # of each run: measures of every generated clip
    reference: dict[str, Any]


def evaluate(paths: Sequence[Path], options: Options) -> Evaluation:
    """Evaluate runs (folders or snapshots) on the same clips by the same judge.

    Raises:
        UserError: a run that cannot be loaded, no PVT-audio, or lengths that do not fit.
    """
    names = run_names(paths)
    runs = [load_model(path, options.device) for path in paths]
    samples = [sample_count(run, options.seconds) for run in runs]
    judge = Evaluator(
        options.data,
        samples[0],
        classifier=options.classifier,
        vggish=options.vggish,
        reference=options.reference,
        anchor_clips=options.clips,
        seed=options.seed,
        device=options.device,
    )
    found = Evaluation([], {}, judge.reference_facts())
    ceilings: dict[str, dict[str, Any]] = {}
    for name, path, run in zip(names, paths, runs, strict=True):
        check_instruments(run, judge, path)
        label = run.representation.label
        if label not in ceilings:
            ceilings[label] = ceiling(run, judge, options.clips)
        settings = SamplingConfig(quick_steps(run, options.sampler_steps), options.guidance, options.seed)
        heard = judge.hear(generated(run, judge, settings, options.clips, options.free))
        ids = [f"{number:05d}" for number in range(options.clips)]
        found.clips[name] = adherence.to_json(heard.ratios, ids)
        row = {**run_facts(name, path, run), **scores(heard, judge), "ceiling": ceilings[label]}
        row["samples"] = {
            "clips": options.clips,
            "seconds": options.seconds,
            "evaluations": run.paradigm.evaluations(settings.of(run)),
            "guidance": str(options.guidance),
            "free": list(options.free),
            "seed": options.seed,
        }
        found.rows.append({**row, "inference": inference_times(run), "anchors": judge.anchors})
    return found


def check_instruments(run: TrainedModel, judge: Evaluator, path: Path) -> None:
    """Refuse a model whose controls mean other instruments than the reference's."""
    theirs = judge.train.clips.info.spec.instrument_names
    if run.data.instruments != theirs:
        raise UserError(
            f"{path} was trained on {', '.join(run.data.instruments)}, {judge.train.clips.folder} has "
            f"{', '.join(theirs)}; name the DATA it belongs to"
        )


def generated(
    run: TrainedModel, judge: Evaluator, settings: SamplingConfig, clips: int, free: Sequence[str] = ()
) -> Iterator[tuple[Tensor, list[ControlTargets]]]:
    """Batches of generated clips [B, 1, N] beside what they were asked for, but for the features left `free`."""
    made = 0
    while made < clips:
        for batch in judge.valid.batches(clips - made):
            count = len(batch["data"])
            controls = run_controls(run, batch, judge.samples, judge.valid.clips.info.hop)
            controls = run.data.layout.without(controls, free)
            audio = sample_controls(
                run, controls, judge.samples, settings=settings, indices=range(made, made + count), progress=True
            )
            if not bool(audio.isfinite().all()):
                raise UserError("the model's samples are not finite; train longer or with a lower learning rate")
            yield audio, judge.valid.asked(batch)
            made += count


def run_controls(run: TrainedModel, batch: dict[str, Tensor], samples: int, hop: int) -> Tensor:
    """A batch's controls, one every `hop` samples, on the frames of the run's format: float32 [B, R, T].

    Frame i of the run looks at sample i * its hop; the control in force there is the last one at or before it.
    """
    frames = torch.arange(run.representation.frames(samples))
    at = (frames * run.data.hop // hop).clamp(max=batch["velocity"].shape[-1] - 1)
    return run.data.layout.stack({name: batch[name][..., at] for name in run.data.layout.names})


def ceiling(run: TrainedModel, judge: Evaluator, clips: int) -> dict[str, Any]:
    """What a perfect model could reach: real valid clips through the run's representation and back."""

    def through() -> Iterator[tuple[Tensor, list[ControlTargets]]]:
        for batch in judge.valid.batches(clips):
            stored = run.representation.encode(batch["data"])
            yield run.representation.decode(stored).float().cpu()[..., : judge.samples], judge.valid.asked(batch)

    heard = judge.hear(through())
    return {"fad": judge.fad(heard.embeddings), "adherence": judge.adherence(heard.ratios)}


def scores(heard: ClipMetrics, judge: Evaluator) -> dict[str, Any]:
    """FADs, the check for copies and adherence of generated clips."""
    return {
        "fad": judge.fad(heard.embeddings),
        "copies": judge.copies(heard.embeddings),
        "adherence": judge.adherence(heard.ratios),
    }


def run_facts(name: str, path: Path, run: TrainedModel) -> dict[str, Any]:
    """What a run is and what its training took."""
    batch = run.config.training.batch
    memory = [line["peak_memory_mb"] for line in training_log(path) if "peak_memory_mb" in line]
    return {
        "run": name,
        "paradigm": run.config.paradigm,
        "format": run.config.format,
        "label": run.representation.label,
        "config": run.config.name,
        "plan_digest": run.data.plan_digest,
        "parameters": parameter_count(run.network),
        "batch": batch,
        "steps": run.step,
        "clips": run.step * batch,
        "training_seconds": run.train_seconds,
        "peak_memory_mb": max(memory) if memory else None,
        "device": str(device_of(run.network)),
    }


def training_log(path: Path) -> list[dict[str, Any]]:
    """The log of the run that `path` is, or that the snapshot `path` lies in; empty where there is none."""
    for folder in (path, *path.parents[:3]):
        if lines := read_log(folder):
            return lines
    return []


def run_names(paths: Sequence[Path]) -> list[str]:
    """A short name for each run: its folder, with as many folders above it as tell all apart.

    Raises:
        UserError: no run, or the same one twice.
    """
    resolved = [path.resolve() for path in paths]
    if not paths or len(set(resolved)) < len(resolved):
        raise UserError("RUN names no run, or one of them twice; give run folders or snapshots, comma-separated")
    for depth in range(1, max(len(path.parts) for path in resolved) + 1):
        names = ["/".join(path.parts[-depth:]) for path in resolved]
        if len(set(names)) == len(names):
            break
    return names


def write(found: Evaluation, out: Path) -> str:
    """Write evaluation.json, .md, .csv and clips.json into `out`; returns the Markdown."""
    text = table.report(found.rows)
    write_json(out / "evaluation.json", {"reference": found.reference, "rows": found.rows})
    write_json(out / "clips.json", found.clips)
    write_bytes(out / "evaluation.csv", table.csv_text(found.rows).encode())
    write_bytes(out / "evaluation.md", text.encode())
    return text

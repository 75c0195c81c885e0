"""Models of the studio and the generation of takes. In shapes, N counts samples and T frames."""

import math
import time
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from data_specs.arrays import Float32
from data_specs.controls import CONTROLS, PITCH
from data_specs.controls.curve_files import curves_value, read_curves
from data_specs.controls.curves import Curves
from data_specs.errors import UserError
from data_specs.io.files import file_sha256
from data_specs.registry import lookup
from pvt.studio.analysis import Analyzer, spectrogram
from pvt.studio.example import stored_example
from pvt.studio.jobs import StudioJob
from pvt.studio.requests import MAX_SECONDS, Generation, Recipe
from pvt.studio.takes import Take, TakeStore
from training.checkpoint import find_snapshot
from training.diffusion.inpainting import Known
from training.diffusion.samplers import Callback, SamplerState
from training.distributed import choose_device
from training.model import TrainedModel, load_model
from training.networks.precision import PrecisionChoice
from training.runs import SHIPPED, shipped_model
from training.sampling.curve_sources import shipped_curves
from training.sampling.defaults import DEFAULT_GUIDANCE
from training.sampling.redraw import CROSSFADE_SECONDS, known_part, splice
from training.sampling.sampling import SamplingConfig, default_steps

DRAFT_SHARE = 3  # full steps per draft step
MIN_DRAFT_STEPS = 10  # below, multistep samplers are far from the solution (docs/results/samplers.md)
DRAWN_AS = {"strip": "strip", "notes": "notes", "pitch": "notes"}  # by lane of a control
EXAMPLES = ("climb", "swell")  # for models with pitch, and for others


@dataclass(frozen=True)
class ModelEntry:
    """A model of the menu, with its name there and the SHA-256 (hex) of its snapshot file."""

    name: str
    model: TrainedModel
    digest: str

    @cached_property
    def steps(self) -> int:
        """Default number of sampler steps on the model's device."""
        options: Any = self.model.paradigm.options({})
        return default_steps(self.model.paradigm, self.model.device) or int(options.steps)

    def describe(self) -> dict[str, Any]:
        """Return a JSON value for the page: names, controls, instruments, lengths, steps and abilities of the model.

        Lengths are in seconds, `sample_rate` is in Hz.
        """
        data = self.model.data
        return {
            "name": self.name,
            "digest": self.digest,
            "label": f"{self.model.config.paradigm} on {data.label}",
            "controls": [describe_control(name) for name in data.layout.names],
            "instruments": list(data.instruments),
            "seconds": min(MAX_SECONDS, data.clip_samples / data.sample_rate),
            "max_seconds": MAX_SECONDS,
            "sample_rate": data.sample_rate,
            "steps": self.steps,
            "draft_steps": draft_steps(self.steps),
            "redraw": self.model.scaling is not None,
            "churn": "s_churn" in self.model.paradigm.Options.model_fields,
            "guidance": self.model.paradigm.guidance_range,
        }


def describe_control(name: str) -> dict[str, Any]:
    """Return how the page draws a control, as a JSON value with its name, kind and default interpolation.

    The kind is `line`, `notes`, or `strip` for a strip of names.
    """
    control = CONTROLS[name]
    return {"name": name, "kind": DRAWN_AS.get(control.lane, "line"), "interpolation": control.default}


def draft_steps(steps: int) -> int:
    """Return the number of steps of a draft: a third of `steps`, but at least 10, and never more than `steps`."""
    return min(steps, max(MIN_DRAFT_STEPS, steps // DRAFT_SHARE))


class Engine:
    """Loaded models, the analyzer and the takes of this session. The constructor loads everything.

    A model is named by its file or folder; an apostrophe is appended to a name that is taken.

    Args:
        paths: run folders, snapshots or names of shipped models; empty for all shipped models.
        device: cpu, cuda or mps; None for cuda where there is one, else cpu.
        precision: as in `load_model`.

    Raises:
        UserError: a model is missing or damaged, or the device is not available.
    """

    def __init__(self, paths: list[Path], device: str | None = None, precision: PrecisionChoice = "auto") -> None:
        device = str(choose_device(device))
        self.entries: dict[str, ModelEntry] = {}
        named = [(path.stem if path.suffix == ".safetensors" else path.name, path) for path in paths]
        for name, path in named or [(name, shipped_model(name)) for name in SHIPPED]:
            while name in self.entries:
                name += "'"
            self.entries[name] = ModelEntry(name, load_model(path, device, precision), file_sha256(find_snapshot(path)))
        self.analyzer = Analyzer.load()
        self.takes = TakeStore()

    def entry(self, name: str) -> ModelEntry:
        """Return a model by name, the first for an empty name.

        Raises:
            UserError: no model has this name.
        """
        entry: ModelEntry = lookup(self.entries, name or next(iter(self.entries)), "model")
        return entry

    def presets(self) -> dict[str, Any]:
        """Return the contents of the shipped curve files, by name, whose controls the first model has."""
        known = set(self.entry("").model.data.layout.names)
        files = {name: read_curves(path) for name, path in shipped_curves().items()}
        return {name: curves_value(curves) for name, curves in files.items() if set(curves.curves) <= known}

    def example(self) -> Generation:
        """Return the request that is generated when the studio starts: a shipped curve file, 8 s, the first model."""
        name = EXAMPLES[0] if PITCH in self.entry("").model.data.layout.names else EXAMPLES[1]
        return Generation(curves=self.presets()[name], seconds=8.0, guidance=DEFAULT_GUIDANCE)

    def check(self, request: Generation) -> None:
        """Check a request before it is queued. Nothing is changed.

        Raises:
            UserError: an unknown model, control or take, curves or sampler settings that do not fit the model, or a
                span for a model of codes.
        """
        entry = self.entry(request.model)
        self.controls_of(entry, request, request.parsed_curves())
        _config(request, entry.steps).resolve(entry.model.paradigm)
        if isinstance(request.guidance, dict):
            for name in request.guidance:
                entry.model.data.layout.slice(name)
        if request.span is not None:
            _check_redraw(entry)
            self._redrawn(request)

    def check_recipe(self, recipe: Recipe) -> None:
        """Check a recipe before it is queued, and those of the takes that it was redrawn from. Nothing is changed.

        Raises:
            UserError: a model that is not in the menu, or settings that do not fit it.
        """
        link: Recipe | None = recipe
        while link is not None:
            entry = self._named(link)
            self.check(link.request(entry.name, None))
            if link.span is not None:
                _check_redraw(entry)
            link = link.kept

    def repeat(self, recipe: Recipe, job: StudioJob) -> None:
        """Generate the take of a recipe, after the takes it was redrawn from, and store all of them in `takes`.

        The last one is reported to the job as an event `takes`.

        Raises:
            UserError: a model is not in the menu, or settings do not fit it.
            Cancelled: the job was cancelled.
        """
        take = self._repeated(recipe, job)
        job.report("takes", takes=[{"id": take.id, "analysis": take.analysis}])

    def _repeated(self, recipe: Recipe, job: StudioJob) -> Take:
        kept = recipe.kept and self._repeated(recipe.kept, job)
        entry = self._named(recipe)
        request = recipe.request(entry.name, kept.id if kept else None)
        take = self.takes_of(request, recipe.steps or entry.steps, job)[recipe.variant]
        self.takes.add(take)
        return take

    def _named(self, recipe: Recipe) -> ModelEntry:
        found = [entry for entry in self.entries.values() if entry.digest == recipe.model.sha256]
        if not found:
            raise UserError(f"the recipe needs the model {recipe.model.name!r:.60}; open the studio with it by RUN=")
        return found[0]

    def generate(self, request: Generation, job: StudioJob) -> None:
        """Generate the takes of a request, store them in `takes`, and report them to the job.

        If the request has `draft`, takes with fewer steps come first, in an event `draft`; those of full quality are in
        an event `takes`. There is no draft if it would not have fewer steps, nor for the shipped example.

        Raises:
            UserError: the request does not fit the model, or the take of its span was dropped.
            Cancelled: the job was cancelled.
        """
        steps = request.steps or self.entry(request.model).steps
        passes = [("draft", draft_steps(steps))] if request.draft and draft_steps(steps) < steps else []
        if stored_example(self.entry(request.model).digest, request, steps) is not None:
            passes = []  # the full quality is at hand
        for kind, count in [*passes, ("takes", steps)]:
            takes = self.takes_of(request, count, job)
            for take in takes:
                self.takes.add(take)
            job.report(kind, takes=[{"id": take.id, "analysis": take.analysis} for take in takes])

    def takes_of(self, request: Generation, steps: int, job: StudioJob) -> list[Take]:
        """Return the variants of a request as takes, which are not stored.

        They are sampled and decoded, or read from the shipped example if the request is that of it; then analyzed. A
        span is joined to the audio of its take by crossfades.

        Args:
            request: the request.
            steps: number of sampler steps, in place of that of the request.
            job: progress is reported to it, and it is checked for cancellation.

        Raises:
            UserError: the request does not fit the model, the take of its span was dropped, or the audio is not finite.
            Cancelled: the job was cancelled.
        """
        entry = self.entry(request.model)
        model = entry.model
        curves = request.parsed_curves()
        samples, controls = self.controls_of(entry, request, curves)
        redrawn = self._redrawn(request)
        known = redrawn and known_part(model, redrawn[0].audio, *redrawn[1:], samples)
        example = stored_example(entry.digest, request, steps)
        if example is None:
            rows = controls.expand(request.variants, -1, -1)
            found = _sample(entry, request, steps, rows, samples, known, _reporter(job))
        else:
            found = [example]
        arrays = model.curve_arrays(curves, samples)
        rate = Fraction(model.data.sample_rate, model.data.hop)
        takes = []
        for variant, audio in enumerate(found):
            job.check()
            audio = _spliced(*redrawn, audio) if redrawn else audio
            recipe = {
                "pvt_sound": 1,
                "model": {"name": entry.name, "sha256": entry.digest},
                "curves": curves_value(curves),
                **request.model_dump(mode="json", exclude={"curves", "model", "draft", "variants"}),
                "steps": steps,
                "variant": variant,
                **({"kept": redrawn[0].recipe} if redrawn else {}),
            }
            takes.append(
                Take(audio, model.data.sample_rate, recipe, self.analyzer(audio, arrays, rate), spectrogram(audio))
            )
        return takes

    def controls_of(self, entry: ModelEntry, request: Generation, curves: Curves) -> tuple[int, torch.Tensor]:
        """Return the number of samples N of a request and its controls, [1, R, T] with R rows of controls and T frames.

        N is the length of the request, rounded up to a multiple of the model's hop.

        Raises:
            UserError: a curve does not fit the model.
        """
        data = entry.model.data
        samples = math.ceil(request.seconds * data.sample_rate / data.hop) * data.hop
        return samples, entry.model.stack_curves([curves], samples)

    def _redrawn(self, request: Generation) -> tuple[Take, int, int] | None:
        """Return the take whose span is generated again, with the span's start and stop in samples; None without span.

        Raises:
            UserError: the take was dropped from memory.
        """
        if request.span is None:
            return None
        take = self.takes.get(request.span.take)
        if take is None:
            raise UserError("the take to redraw is not in memory any more; generate it again")
        start, stop = (round(edge * take.sample_rate) for edge in (request.span.start, request.span.stop))
        return take, start, stop


def _check_redraw(entry: ModelEntry) -> None:
    if entry.model.scaling is None:
        raise UserError(f"{entry.name} generates codes, which cannot be redrawn in part; generate all of it")


def _spliced(take: Take, start: int, stop: int, audio: Float32) -> Float32:
    """Return the audio of a take, cut or padded to the length of `audio`, with the span from `audio`.

    The span is samples `start` to `stop` (exclusive). There are linear crossfades outside of it.
    """
    original = np.zeros_like(audio)
    original[: len(take.audio)] = take.audio[: len(audio)]
    return splice(original, audio, start, min(stop, len(audio)), round(CROSSFADE_SECONDS * take.sample_rate))


def _config(request: Generation, steps: int) -> SamplingConfig:
    churn = {"s_churn": request.s_churn} if request.s_churn else {}
    return SamplingConfig(steps, request.guidance, request.seed, churn)


def _sample(
    entry: ModelEntry,
    request: Generation,
    steps: int,
    controls: torch.Tensor,
    samples: int,
    known: Known | None,
    on_step: Callback | None,
) -> list[Float32]:
    """Return the sampled audio, float32 [N], of each variant.

    Args:
        entry: the model.
        request: source of guidance, seed and stochasticity.
        steps: number of sampler steps.
        controls: [variants, R, T].
        samples: number of samples N.
        known: data to keep outside of a span; None to generate all.
        on_step: called after each sampler step.
    """
    config = _config(request, steps)
    clips = entry.model.sample_controls(controls, samples, config, batch=len(controls), known=known, callback=on_step)
    return [clip[0].numpy() for clip in clips]


def _reporter(job: StudioJob) -> Callback:
    """Return a callback that reports progress after each sampler step, and raises Cancelled once `job` is cancelled."""
    started = time.monotonic()

    def on_step(state: SamplerState) -> None:
        job.check()
        left = (time.monotonic() - started) * (state.steps - state.step) / state.step
        job.report("progress", share=state.step / state.steps, seconds_left=round(left, 1), steps=state.steps)

    return on_step


def sample_example(engine: Engine) -> Float32:
    """Return the audio of the example, float32 [N], sampled by the first model even if it is shipped."""
    entry, request = engine.entry(""), engine.example()
    samples, controls = engine.controls_of(entry, request, request.parsed_curves())
    return _sample(entry, request, entry.steps, controls, samples, None, None)[0]

"""Models of the studio and the generation of takes. T frames, N samples."""

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
from training.model import TrainedModel, load_model, shipped_model
from training.networks.precision import PrecisionChoice
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
    """A model of the menu."""

    name: str
    model: TrainedModel
    digest: str

    @cached_property
    def steps(self) -> int:
        """Default number of sampler steps."""
        options: Any = self.model.paradigm.options({})
        return default_steps(self.model.paradigm, self.model.device) or int(options.steps)

    def describe(self) -> dict[str, Any]:
        """Return a JSON value for the page: controls, instruments, lengths and defaults."""
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
        }


def describe_control(name: str) -> dict[str, Any]:
    """Return how the page draws a control: as a line, as notes, or as a strip of names."""
    control = CONTROLS[name]
    return {"name": name, "kind": DRAWN_AS.get(control.lane, "line"), "interpolation": control.default}


def draft_steps(steps: int) -> int:
    """Return the number of steps of a draft."""
    return min(steps, max(MIN_DRAFT_STEPS, steps // DRAFT_SHARE))


class Engine:
    """Loaded models, the analyzer and the takes of this session.

    Args:
        paths: run folders or snapshots; empty for the shipped model.
        device: cpu or cuda; None for cuda where there is one.
        precision: of `load_model`.
    """

    def __init__(self, paths: list[Path], device: str | None = None, precision: PrecisionChoice = "auto") -> None:
        device = str(choose_device(device))
        self.entries: dict[str, ModelEntry] = {}
        for path in paths or [shipped_model()]:
            name = path.stem if path.suffix == ".safetensors" else path.name
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
        """Return the contents of the shipped curve files that the first model can follow."""
        known = set(self.entry("").model.data.layout.names)
        files = {name: read_curves(path) for name, path in shipped_curves().items()}
        return {name: curves_value(curves) for name, curves in files.items() if set(curves.curves) <= known}

    def example(self) -> Generation:
        """Return the request that is generated at the start of the studio."""
        name = EXAMPLES[0] if PITCH in self.entry("").model.data.layout.names else EXAMPLES[1]
        return Generation(curves=self.presets()[name], seconds=8.0, guidance=DEFAULT_GUIDANCE)

    def check(self, request: Generation) -> None:
        """Refuse a request before it is queued.

        Raises:
            UserError: an unknown model, control or take, or curves that do not fit.
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
        """Refuse a recipe before it is queued.

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
        """Generate the take of a recipe, after the takes it was redrawn from; report it to the job."""
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
        """Generate the takes of a request: a draft if asked for, then in full quality; report both to the job."""
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
        """Sample, decode and analyze the variants of a request with a number of steps."""
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
        """Return the number of samples of a request and its controls [1, R, T]."""
        data = entry.model.data
        samples = math.ceil(request.seconds * data.sample_rate / data.hop) * data.hop
        return samples, entry.model.stack_curves([curves], samples)

    def _redrawn(self, request: Generation) -> tuple[Take, int, int] | None:
        """Return the take of which a span is generated anew, and the span in samples; None without a span.

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
    """Return the audio of a take with the span from new audio."""
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
    """Return the audio [N] of each variant."""
    config = _config(request, steps)
    clips = entry.model.sample_controls(controls, samples, config, batch=len(controls), known=known, callback=on_step)
    return [clip[0].numpy() for clip in clips]


def _reporter(job: StudioJob) -> Callback:
    """Return a callback that reports progress and checks for cancellation after each step."""
    started = time.monotonic()

    def on_step(state: SamplerState) -> None:
        job.check()
        left = (time.monotonic() - started) * (state.steps - state.step) / state.step
        job.report("progress", share=state.step / state.steps, seconds_left=round(left, 1), steps=state.steps)

    return on_step


def sample_example(engine: Engine) -> Float32:
    """Return the audio [N] of the example, generated anew."""
    entry, request = engine.entry(""), engine.example()
    samples, controls = engine.controls_of(entry, request, request.parsed_curves())
    return _sample(entry, request, entry.steps, controls, samples, None, None)[0]

"""Stages of a campaign: datasets, models at equal seconds, the main model, a page of samples."""

import argparse
import json
import os
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from bench.node.models import MAIN, MODELS, Model, snapshot_file, train
from bench.node.work import Facts, TimeBudget
from data_specs.cli import integer
from data_specs.dataset import MANIFEST, folder_name
from data_specs.errors import UserError
from data_specs.io.download import cache_folder
from data_specs.spec import ClipCounts
from training.config import load_config
from training.evaluation.embedders.vggish import FILE, VARIABLE

CLIPS_PER_SONG = 40  # approximate number of clips of a permuted tune
GUIDANCE = (1.0, 1.5, 2.0)  # of the scores of the main model


@dataclass(frozen=True)
class Campaign:
    """Options of one call, with absolute paths, since commands run in the folder of the project."""

    budget: TimeBudget
    out: Path
    models: tuple[Model, ...]
    sampler_steps: Mapping[str, int]
    clips: str  # of encodec
    fewer: str  # of the other formats
    config: str
    spec: str
    data: Path | None
    equal_seconds: int
    main_seconds: int
    save_seconds: int
    scored: int
    device: tuple[str, ...]  # option of the commands

    @classmethod
    def parse(cls, arguments: argparse.Namespace, budget: TimeBudget, out: Path) -> "Campaign":
        """Return the checked options of the command line, for a call with the time `budget` and the folder `out`.

        Raises:
            UserError: an option is invalid.
        """
        known = {model.name: model for model in MODELS}
        names = arguments.models.split(",") if arguments.models else list(known)
        steps = dict(pair.partition("=")[::2] for pair in arguments.sampler_steps.split(",") if pair)
        if unknown := ", ".join(sorted({*names, *steps} - {*known})):
            raise UserError(f"--models and --sampler-steps must name {', '.join(known)}, got {unknown}")
        for name in names:  # refuse an unsuitable config before anything is rendered
            load_config(arguments.config, known[name].paradigm, known[name].format)
        for text in (arguments.clips, arguments.fewer):
            ClipCounts.parse(text)
        config, spec = (
            str(Path(name).resolve()) if Path(name).is_file() else name for name in (arguments.config, arguments.spec)
        )
        return cls(
            budget=budget,
            out=out,
            models=tuple(known[name] for name in names),
            sampler_steps={name: model.sampler_steps for name, model in known.items()}
            | {name: integer("SAMPLER_STEPS", count) for name, count in steps.items()},
            clips=arguments.clips,
            fewer=arguments.fewer,
            config=config,
            spec=spec,
            data=None if arguments.data is None else arguments.data.resolve(),
            equal_seconds=integer("EQUAL_SECONDS", arguments.equal_seconds),
            main_seconds=integer("MAIN_SECONDS", arguments.main_seconds),
            save_seconds=integer("SAVE_SECONDS", arguments.save_seconds),
            scored=integer("SCORED", arguments.scored, least=2),
            device=() if arguments.device is None else ("--device", arguments.device),
        )

    def run(self) -> None:
        """Run the stages that have no record with the same inputs.

        Raises:
            OutOfTime: the time is over; the next call resumes.
            UserError: a stage failed.
        """
        step = self.budget.run_step
        step("machine", {"python": sys.executable}, lambda: self.probe(*self.device))
        shared = {"config": self.config, "spec": self.spec, "scored": self.scored}
        for model in self.models:
            inputs = {**shared, "seconds": self.equal_seconds, "steps": self.sampler_steps[model.name]}
            step(f"compare-{model.name}", inputs, lambda model=model: self.trained(model, self.equal_seconds, None))
        inputs = {**shared, "seconds": self.main_seconds, "steps": self.sampler_steps[MAIN.name]}
        step("main", inputs, lambda: {"rows": [self.trained(MAIN, self.main_seconds, weight) for weight in GUIDANCE]})
        held = [file for model in self.models if (file := snapshot_file(self.budget.work, model)).is_file()]
        step("page", {**inputs, "models": [file.name for file in held]}, lambda: self.page(held))

    def probe(self, *options: str) -> Facts:
        """Run `bench.node.probe` with these options, and return the results that it prints."""
        return json.loads(self.budget.python("probe", ["-m", "bench.node.probe", *options]))

    def trained(self, model: Model, seconds: int, guidance: float | None) -> Facts:
        """Train a model for `seconds` in total over all calls, score it, and return its row of the tables.

        The dataset is built if needed. A `guidance` of None is the default. Utilisation is the rate of floating-point
        operations in training divided by the measured rate of matrix products in the precision of the run.
        """
        data = self.dataset(model.format)
        found = train(self.budget, model, self.config, data, seconds, self.out, self.save_seconds, self.device)
        name = f"step-{model.name}"
        options = ("--step", model.paradigm, model.format, self.config, str(data))
        counted = self.budget.run_step(name, {"config": self.config}, lambda: self.probe(*options))
        bound = 1e3 * self.budget.recorded("machine")[f"{found['precision']}_tflops"]
        found["utilisation"] = counted["step_gflop"] * found["steps_per_second"] / bound
        print(f"{model.name}: {found['steps']:,} steps in {found['train_seconds']:.1f} s", flush=True)
        named = {"run": model.name, "sampler_steps": self.sampler_steps[model.name]}
        return {**self.score(model, guidance), **counted, **found, **named}

    def dataset(self, format_name: str) -> Path:
        """Return the folder of the datasets; that of `format_name` is built of permuted tunes and recorded if needed.

        Raises:
            OutOfTime: the time is over; the next call resumes.
            UserError: --data lacks it, or the build failed.
        """
        data, corpus = self.data or self.budget.work / "data", self.budget.work / "corpus"
        manifest = data / folder_name(format_name) / MANIFEST
        inputs = {"spec": self.spec, "clips": self.clips if format_name == "encodec" else self.fewer}
        if self.data is not None and not manifest.is_file():
            raise UserError(f"--data must be a folder with {folder_name(format_name)}, got {data}")
        if self.data is not None or (manifest.is_file() and self.budget.recorded(f"data-{format_name}", inputs)):
            return data
        started = time.monotonic()
        if not corpus.is_dir():
            songs = -(-ClipCounts.parse(self.clips).train // CLIPS_PER_SONG)
            part = corpus.with_name("corpus.part")
            command = ["-m", "bench.corpus", "tunes", str(songs), "--train-only", "--with-source", "--out", str(part)]
            self.budget.python("corpus", command)
            os.replace(part, corpus)
        command = ["-m", "pipeline", "dataset", "--spec", self.spec, "--midi", str(corpus), "--format", format_name]
        self.budget.python("data", [*command, "--clips", inputs["clips"], "--accept-fewer", "--out", str(data)])
        clips = sum(split["clips"] for split in json.loads(manifest.read_bytes())["splits"].values())
        found = {"format": format_name, "clips": clips, "clips_per_second": clips / (time.monotonic() - started)}
        self.budget.record(f"data-{format_name}", inputs, found)
        print(f"{format_name}: {clips:,} clips, {found['clips_per_second']:.1f} a second", flush=True)
        return data

    def score(self, model: Model, guidance: float | None) -> Facts:
        """Evaluate the newest snapshot of a model with `guidance` (None: the default); return its row of results."""
        data, run = self.dataset("audio"), snapshot_file(self.budget.work, model)
        out = self.budget.work / "evaluation" / (model.name if guidance is None else f"main-{guidance:g}")
        command = ["-m", "training", "evaluate", "--run", str(run), "--data", str(data), "--clips", str(self.scored)]
        command += ["--sampler-steps", str(self.sampler_steps[model.name]), "--out", str(out), *self.device]
        command += [] if guidance is None else ["--guidance", f"{guidance:g}"]
        weights = os.environ.get(VARIABLE) or cache_folder() / FILE
        if not Path(weights).is_file():  # a path without a file, so that nothing is downloaded
            command += ["--vggish", str(self.budget.work / FILE)]
        self.budget.python("evaluate", command)
        (row,) = json.loads((out / "evaluation.json").read_bytes())["rows"]
        return dict(row)

    def page(self, snapshots: list[Path]) -> Facts:
        """Write WORK/page.html with samples of the models `snapshots` for the shipped curves and for real clips.

        Returns:
            The number of models.
        """
        data, out = self.dataset("audio"), self.budget.work / "page.html"
        runs = ",".join(map(str, snapshots))
        command = ["-m", "training", "demo", "--run", runs, "--data", str(data), "--out", str(out), *self.device]
        self.budget.python("page", command)
        return {"models": len(snapshots)}

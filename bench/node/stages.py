"""The stages of a call in order: clips, training, results."""

import json
import math
import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from bench.node import clips, models, results
from bench.node.artifacts import write_artifacts
from bench.node.work import Facts, TimeBudget
from data_specs.io.download import cache_folder
from data_specs.io.files import write_json
from training.evaluation.embedders.vggish import FILE, VARIABLE

STARTING_SHARE = 0.2  # of the time for training: starting processes and saving checkpoints
LEAST_SECONDS = 10.0  # of training
MACHINE = (
    "import json, platform, torch; from bench.__main__ import machine; "
    "print(json.dumps({'machine': machine(), 'device': 'cuda' if torch.cuda.is_available() else 'cpu', "
    "'versions': f'Python {platform.python_version()}, torch {torch.__version__}'}))"
)


@dataclass(frozen=True)
class NodeOptions:
    """NodeOptions of the command.

    Attributes:
        shares: of the time: clips, training, results.
        source: what is rendered, unless `data` is given.
        data: folder of ready datasets.
        config: of training, a name or a path.
        train_seconds: of each model; None for what the share gave in the first budget.
        evaluated: clips evaluated for each model; None for the default of the device.
    """

    shares: tuple[float, float, float]
    source: clips.RenderOptions
    data: Path | None
    config: str
    train_seconds: float | None
    evaluated: int | None
    sampler_steps: int | None
    vggish: str | None
    device: str | None


def stages(budget: TimeBudget, options: NodeOptions, found: Facts) -> None:
    """Run all stages; `found` is filled on the way, so that an interrupted call has results to report.

    Raises:
        OutOfTime: the rest is for the next budget.
        UserError: a step failed.
    """
    found |= budget.run_step("machine", {"python": sys.executable}, lambda: _machine(budget))
    device = options.device or str(found["device"])
    log(f"{found['machine']}; {budget.seconds_left():.0f} s from now")
    data = _clips(budget, options, found)
    _training(budget, options, found, data, device)
    _results(budget, options, found, data, device)


def _clips(budget: TimeBudget, options: NodeOptions, found: Facts) -> Path:
    """Build the datasets; returns their folder."""
    if options.data is not None:
        found["clips"] = clips.ready(options.data)
        return options.data
    found["clips"] = clips.build(budget, options.source, options.shares[0] * budget.seconds)
    for name, facts in found["clips"].items():
        rate = f", {facts['clips_per_second']:.1f} a second" if "clips_per_second" in facts else ""
        log(f"{name}: {facts['clips']:,} clips{rate}")
    return budget.work / "data"


def _training(budget: TimeBudget, options: NodeOptions, found: Facts, data: Path, device: str) -> None:
    config = models.write_config(options.config, device, budget.work / "config")
    extra = [] if options.device is None else ["--device", options.device]
    seconds = (
        options.train_seconds or budget.run_step("train-seconds", {}, lambda: equal_seconds(budget, options))["seconds"]
    )
    for model in models.MODELS:
        try:
            models.train(budget, model, config, data, seconds, extra)
        finally:
            if far := models.progress(budget.work / "runs" / model.name):
                found["training"][model.name] = far
        said = f"{far['steps']:,} steps in {far['train_seconds']:.1f} s, {far['steps_per_second']:.2f} a second"
        log(f"{model.name}: {said}, at most {far['peak_memory_mb']:,.0f} MB")


def equal_seconds(budget: TimeBudget, options: NodeOptions) -> Facts:
    """Seconds of training for each model: its share of the remaining time, less start-up."""
    share = options.shares[1] / (options.shares[1] + options.shares[2])
    each = share * (1 - STARTING_SHARE) * budget.seconds_left() / len(models.MODELS)
    return {"seconds": max(LEAST_SECONDS, math.floor(each))}


def _results(budget: TimeBudget, options: NodeOptions, found: Facts, data: Path, device: str) -> None:
    evaluated = results.EVALUATED[device] if options.evaluated is None else options.evaluated
    how = results.SamplingOptions(data, evaluated, options.sampler_steps, device)
    vggish = vggish_file(options.vggish, budget.work)
    for model in models.MODELS:
        results.sample(budget, model, how, found["training"][model.name])
    for model in models.MODELS:
        row = results.evaluate(budget, model, how, found["training"][model.name], vggish)
        found["evaluation"][model.name] = row
        log(f"{model.name}: {evaluated} clips evaluated in {row['wall_seconds']:.0f} s")
    results.page(budget, models.MODELS, how, found["training"])


def _machine(budget: TimeBudget) -> Facts:
    facts: Facts = json.loads(budget.python("machine", ["-c", MACHINE])[-1][1])
    return facts


def vggish_file(named: str | None, work: Path) -> str | None:
    """File of VGGish's weights; a missing path where there is none, so that nothing is downloaded."""
    if named or os.environ.get(VARIABLE) or (cache_folder() / FILE).is_file():
        return named
    return str(work / FILE)


def end(budget: TimeBudget, options: NodeOptions, found: Facts, state: str, out: Path) -> None:
    """Record the duration of the call and write the artifacts."""
    held = budget.step_record("calls") or {"seconds": []}
    spent = [*held["seconds"], round(time.monotonic() - budget.started, 1)]
    write_json(budget.work / "marks" / "calls.json", {"seconds": spent})
    summary = {"config": options.config, **found, "state": state, "seconds_by_call": spent}
    for sentence in write_artifacts(budget.work, out, summary, models.MODELS):
        log(f"note: {sentence}")


def log(text: str) -> None:
    """Print one line."""
    print(text, flush=True)

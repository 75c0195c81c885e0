"""Stage 3: sample and evaluate the models. Each command is a step with a record, so none runs twice."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.node.models import Model
from bench.node.work import Facts, TimeBudget
from training.evaluation.tables import report

EVALUATED = {"cpu": 16, "cuda": 200}  # clips of each model, unless --judge is given
PAGE_CLIPS = 2  # real clips on the page, beside the shipped curves


@dataclass(frozen=True)
class SamplingOptions:
    """NodeOptions of sampling and evaluation.

    Attributes:
        data: folder of PVT-audio.
        evaluated: clips evaluated for each model.
        sampler_steps: of each paradigm; None for the default.
        device: cpu or cuda.
    """

    data: Path
    evaluated: int
    sampler_steps: int | None
    device: str

    def options(self) -> list[str]:
        """Command-line options shared by all commands."""
        steps = [] if self.sampler_steps is None else ["--sampler-steps", str(self.sampler_steps)]
        return ["--device", self.device, *steps]

    def key(self) -> Facts:
        """Inputs that decide the results."""
        return {"sampler_steps": self.sampler_steps, "device": self.device}


def sample(budget: TimeBudget, model: Model, how: SamplingOptions, trained: Facts) -> Facts:
    """Sample each shipped curve file: WAV, PNG and controls below WORK/samples."""
    run, out = budget.work / "runs" / model.name, budget.work / "samples" / model.name
    command = ["-m", "training", "sample", "--run", str(run), "--clips", "1", "--out", str(out), *how.options()]

    def work() -> Facts:
        budget.python(f"sample-{model.name}", command)
        return {"files": sorted(str(path.relative_to(out)) for path in out.glob("*/*"))}

    return budget.run_step(f"sample-{model.name}", {**how.key(), "steps": trained["steps"]}, work)


def evaluate(budget: TimeBudget, model: Model, how: SamplingOptions, trained: Facts, vggish: str | None) -> Facts:
    """Evaluate a model; returns its row of the tables."""
    run, out = budget.work / "runs" / model.name, budget.work / "evaluation" / model.name
    command = ["-m", "training", "evaluate", "--run", str(run), "--data", str(how.data), "--clips", str(how.evaluated)]
    command += ["--out", str(out), *how.options(), *(["--vggish", vggish] if vggish else [])]

    def work() -> Facts:
        budget.python(f"evaluate-{model.name}", command)
        (row,) = json.loads((out / "evaluation.json").read_bytes())["rows"]
        return {"row": row}

    inputs = {**how.key(), "steps": trained["steps"], "evaluated": how.evaluated, "vggish": vggish}
    return budget.run_step(f"evaluate-{model.name}", inputs, work)


def page(budget: TimeBudget, models: Sequence[Model], how: SamplingOptions, trained: dict[str, Facts]) -> Facts:
    """Write WORK/page.html: samples of all models on the shipped curves and on real clips."""
    from training.sampling.curve_sources import shipped_curves

    real = f"{how.data / 'PVT-audio'}:valid:0-{PAGE_CLIPS - 1}"
    runs = ",".join(str(budget.work / "runs" / model.name) for model in models)
    command = ["-m", "training", "demo", "--run", runs, "--controls", ",".join([*shipped_curves(), real])]
    command += ["--out", str(budget.work / "page.html"), *how.options()]

    def work() -> Facts:
        budget.python("page", command)
        return {"bytes": (budget.work / "page.html").stat().st_size}

    steps = {name: facts["steps"] for name, facts in trained.items()}
    return budget.run_step("page", {**how.key(), "steps": steps}, work)


def tables(rows: Sequence[Facts]) -> str:
    """All tables of the evaluated models, as `python -m training evaluate` formats them."""
    return report(rows)

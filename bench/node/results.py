"""Stage 3: what the models sound like and what they score. Each command is a step of its own, so none is done twice."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.node.models import Model
from bench.node.work import Call, Facts
from training.evaluation.tables import report

JUDGED = {"cpu": 16, "cuda": 200}  # clips of each model, where the user names no number
PAGE_CLIPS = 2  # real clips on the page, beside the shipped curves


@dataclass(frozen=True)
class Listening:
    """How the models are sampled and judged.

    Attributes:
        data: folder of PVT-audio.
        judged: clips of each model that are judged.
        sampler_steps: of each paradigm; None for what the commands take.
        device: cpu or cuda.
    """

    data: Path
    judged: int
    sampler_steps: int | None
    device: str

    def options(self) -> list[str]:
        """What all commands take."""
        steps = [] if self.sampler_steps is None else ["--sampler-steps", str(self.sampler_steps)]
        return ["--device", self.device, *steps]

    def key(self) -> Facts:
        """What makes other results."""
        return {"sampler_steps": self.sampler_steps, "device": self.device}


def sample(call: Call, model: Model, how: Listening, trained: Facts) -> Facts:
    """A sample of each shipped curve file: WAV, PNG and controls below WORK/samples."""
    run, out = call.work / "runs" / model.name, call.work / "samples" / model.name
    command = ["-m", "training", "sample", "--run", str(run), "--clips", "1", "--out", str(out), *how.options()]

    def work() -> Facts:
        call.python(f"sample-{model.name}", command)
        return {"files": sorted(str(path.relative_to(out)) for path in out.glob("*/*"))}

    return call.once(f"sample-{model.name}", {**how.key(), "steps": trained["steps"]}, work)


def evaluate(call: Call, model: Model, how: Listening, trained: Facts, vggish: str | None) -> Facts:
    """A model's row of the tables, as `training.evaluation` writes it."""
    run, out = call.work / "runs" / model.name, call.work / "evaluation" / model.name
    command = ["-m", "training", "evaluate", "--run", str(run), "--data", str(how.data), "--clips", str(how.judged)]
    command += ["--out", str(out), *how.options(), *(["--vggish", vggish] if vggish else [])]

    def work() -> Facts:
        call.python(f"evaluate-{model.name}", command)
        (row,) = json.loads((out / "evaluation.json").read_bytes())["rows"]
        return {"row": row}

    inputs = {**how.key(), "steps": trained["steps"], "judged": how.judged, "vggish": vggish}
    return call.once(f"evaluate-{model.name}", inputs, work)


def page(call: Call, models: Sequence[Model], how: Listening, trained: dict[str, Facts]) -> Facts:
    """One page with all models on the shipped curves and on real clips: WORK/page.html."""
    from training.sampling.curve_sources import shipped_curves

    real = f"{how.data / 'PVT-audio'}:valid:0-{PAGE_CLIPS - 1}"
    runs = ",".join(str(call.work / "runs" / model.name) for model in models)
    command = ["-m", "training", "demo", "--run", runs, "--controls", ",".join([*shipped_curves(), real])]
    command += ["--out", str(call.work / "page.html"), *how.options()]

    def work() -> Facts:
        call.python("page", command)
        return {"bytes": (call.work / "page.html").stat().st_size}

    steps = {name: facts["steps"] for name, facts in trained.items()}
    return call.once("page", {**how.key(), "steps": steps}, work)


def tables(rows: Sequence[Facts]) -> str:
    """All tables of the evaluated models, as `python -m training evaluate` writes them for several runs."""
    return report(rows)

"""The stages of a call in their order, and what is said about them."""

import json
import math
import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from bench.node import clips, models, results
from bench.node.artifacts import hand_over
from bench.node.work import Call, Facts
from data_specs.io.download import cache_folder
from data_specs.io.files import write_json
from training.evaluation.embedders.vggish import FILE, VARIABLE

STARTING_SHARE = 0.2  # of the time for training: processes that start and states that are saved
LEAST_SECONDS = 10.0  # of training
MACHINE = (
    "import json, platform, torch; from bench.__main__ import machine; "
    "print(json.dumps({'machine': machine(), 'device': 'cuda' if torch.cuda.is_available() else 'cpu', "
    "'versions': f'Python {platform.python_version()}, torch {torch.__version__}'}))"
)


@dataclass(frozen=True)
class Wishes:
    """What the user chose.

    Attributes:
        shares: of a call's time: clips, training, results.
        source: what is rendered; None to take the datasets in `data`.
        data: folder of ready datasets.
        config: of training, a name or a path.
        train_seconds: of each model; None for what the share gave in the first call.
        judged: clips of each model that are judged; None for the device's number.
    """

    shares: tuple[float, float, float]
    source: clips.Source
    data: Path | None
    config: str
    train_seconds: float | None
    judged: int | None
    sampler_steps: int | None
    vggish: str | None
    device: str | None


def stages(call: Call, wishes: Wishes, found: Facts) -> None:
    """Clips, training, results. `found` is filled on the way, so that a call that is cut has something to show.

    Raises:
        OutOfTime: the rest is for the next call.
        UserError: something failed for good.
    """
    found |= call.once("machine", {"python": sys.executable}, lambda: _machine(call))
    device = wishes.device or str(found["device"])
    say(f"{found['machine']}; {call.left():.0f} s from now")
    data = _clips(call, wishes, found)
    _training(call, wishes, found, data, device)
    _results(call, wishes, found, data, device)


def _clips(call: Call, wishes: Wishes, found: Facts) -> Path:
    """The folder of the datasets."""
    if wishes.data is not None:
        found["clips"] = clips.ready(wishes.data)
        return wishes.data
    found["clips"] = clips.build(call, wishes.source, wishes.shares[0] * call.seconds)
    for name, facts in found["clips"].items():
        rate = f", {facts['clips_per_second']:.1f} a second" if "clips_per_second" in facts else ""
        say(f"{name}: {facts['clips']:,} clips{rate}")
    return call.work / "data"


def _training(call: Call, wishes: Wishes, found: Facts, data: Path, device: str) -> None:
    config = models.write_config(wishes.config, device, call.work / "config")
    extra = [] if wishes.device is None else ["--device", wishes.device]
    seconds = wishes.train_seconds or call.once("train-seconds", {}, lambda: equal_seconds(call, wishes))["seconds"]
    for model in models.MODELS:
        try:
            models.train(call, model, config, data, seconds, extra)
        finally:
            if far := models.progress(call.work / "runs" / model.name):
                found["training"][model.name] = far
        said = f"{far['steps']:,} steps in {far['train_seconds']:.1f} s, {far['steps_per_second']:.2f} a second"
        say(f"{model.name}: {said}, at most {far['peak_memory_mb']:,.0f} MB")


def equal_seconds(call: Call, wishes: Wishes) -> Facts:
    """Seconds of training of each model: its share of the time that is left, less what starting takes."""
    share = wishes.shares[1] / (wishes.shares[1] + wishes.shares[2])
    each = share * (1 - STARTING_SHARE) * call.left() / len(models.MODELS)
    return {"seconds": max(LEAST_SECONDS, math.floor(each))}


def _results(call: Call, wishes: Wishes, found: Facts, data: Path, device: str) -> None:
    judged = results.JUDGED[device] if wishes.judged is None else wishes.judged
    how = results.Listening(data, judged, wishes.sampler_steps, device)
    vggish = vggish_file(wishes.vggish, call.work)
    for model in models.MODELS:
        results.sample(call, model, how, found["training"][model.name])
    for model in models.MODELS:
        row = results.evaluate(call, model, how, found["training"][model.name], vggish)
        found["evaluation"][model.name] = row
        say(f"{model.name}: {judged} clips judged in {row['wall_seconds']:.0f} s")
    results.page(call, models.MODELS, how, found["training"])


def _machine(call: Call) -> Facts:
    facts: Facts = json.loads(call.python("machine", ["-c", MACHINE])[-1][1])
    return facts


def vggish_file(named: str | None, work: Path) -> str | None:
    """The file of VGGish's weights; where there is none, a path that says so without trying to download them."""
    if named or os.environ.get(VARIABLE) or (cache_folder() / FILE).is_file():
        return named
    return str(work / FILE)


def end(call: Call, wishes: Wishes, found: Facts, state: str, out: Path) -> None:
    """Note how long the call took, and hand over what there is."""
    held = call.mark("calls") or {"seconds": []}
    spent = [*held["seconds"], round(time.monotonic() - call.started, 1)]
    write_json(call.work / "marks" / "calls.json", {"seconds": spent})
    summary = {"config": wishes.config, **found, "state": state, "seconds_by_call": spent}
    for sentence in hand_over(call.work, out, summary, models.MODELS):
        say(f"note: {sentence}")


def say(text: str) -> None:
    """One line for a person."""
    print(text, flush=True)

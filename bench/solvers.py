"""Errors of samplers as solvers of the probability flow: `python -m bench.solvers`.

All samplers start from the same noise. Their latents are compared with those of Heun's method with 100 steps. The
table shows the discretization error only, not the quality of samples.
"""

import argparse
from pathlib import Path

import torch

from bench.denoiser import load_crops
from data_specs.cli import Parser, add_threads, integer, run, use_threads
from training.data.dataset import Dataset
from training.diffusion import PerClipNoise
from training.diffusion.samplers import SAMPLERS
from training.evaluation.tables import markdown_table
from training.model import TrainedModel, load_model
from training.sampling.defaults import DEFAULT_GUIDANCE

NAMES = ("heun", "dpmpp_2m", "ipndm")
EVALUATIONS = (4, 6, 8, 10, 18, 35)
REFERENCE_STEPS = 100
Row = tuple[int, dict[str, float]]


def steps_within(name: str, evaluations: int) -> int:
    """Return the largest number of steps of the sampler `name` with at most `evaluations` network evaluations."""
    return max(steps for steps in range(1, evaluations + 1) if SAMPLERS[name].evaluations(steps) <= evaluations)


def measure(model: TrainedModel, data: Path, clips: int, frames: int, sigma_max: float) -> list[Row]:
    """Return (number of evaluations, error by name of the sampler) for each of EVALUATIONS.

    The error is the standard deviation of the difference from the reference, divided by that of the reference.

    Args:
        model: an EDM.
        data: dataset, whose valid clips have the controls.
        clips: number of clips.
        frames: number of frames of each clip.
        sigma_max: initial noise level.
    """
    clean, controls = load_crops(model, Dataset(data, "valid", format_name=model.config.format), clips, frames)

    def sample(name: str, steps: int) -> torch.Tensor:
        options = model.paradigm.options({"sampler": name, "steps": steps, "sigma_max": sigma_max})
        noise = PerClipNoise(0, range(len(clean)), "sample")
        return model.paradigm.sample(
            model.network, tuple(clean.shape[1:]), controls, noise, options, guidance=DEFAULT_GUIDANCE
        )

    exact = sample("heun", REFERENCE_STEPS)
    rows = []
    for evaluations in EVALUATIONS:
        errors = {name: sample(name, steps_within(name, evaluations)) - exact for name in NAMES}
        rows.append((evaluations, {name: float(error.std() / exact.std()) for name, error in errors.items()}))
    return rows


def table(rows: list[Row]) -> str:
    """Return the rows of `measure` as a Markdown table, errors with three decimals."""
    return markdown_table(
        ["evaluations", *NAMES], ([str(count), *(f"{errors[name]:.3f}" for name in NAMES)] for count, errors in rows)
    )


def _measure(arguments: argparse.Namespace) -> int:
    use_threads(arguments)
    clips, frames, highest = (integer(n, getattr(arguments, n.lower())) for n in ("CLIPS", "FRAMES", "SIGMA_MAX"))
    print(table(measure(load_model(arguments.run), arguments.data, clips, frames, float(highest))))
    return 0


def main() -> int:
    """Print the table of errors for the model and the dataset of the command line, and return the exit status."""
    parser = Parser(prog="python -m bench.solvers", description=__doc__)
    add = parser.add_argument
    add("--run", type=Path, default=Path("edm"), metavar="MODEL", help="run folder or snapshot of an EDM (edm)")
    add("--data", type=Path, required=True, metavar="FOLDER", help="dataset of the run")
    add("--clips", metavar="N", default="4", help="valid clips whose controls are used (4)")
    add("--frames", metavar="N", default="150", help="frames of each clip (150)")
    add("--sigma-max", metavar="N", default="80", help="initial noise level (80)")
    add_threads(parser)
    parser.set_defaults(command=_measure)
    return run(parser, None)


if __name__ == "__main__":
    raise SystemExit(main())

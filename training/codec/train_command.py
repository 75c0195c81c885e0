"""`python -m training codec train` and `codec export`: train a codec and write its weights file."""

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from data_specs.cli import integer, integer_or_none
from data_specs.errors import UserError
from data_specs.io.files import check_output_file
from training.options import add_data

if TYPE_CHECKING:
    from torch import Tensor

    from training.codec.run import CodecRun

FRAMES, ITERATIONS = 65_536, 10  # of k-means over the latents of a trained encoder
WEIGHTS = "codec.safetensors"


def add_train(parser: argparse.ArgumentParser) -> None:
    """Add the options of `codec train` to `parser`, and set its command to `train_command`."""
    parser.description = (
        "Train encoder, codebooks and decoder of a codec on the train split of PVT-audio. Rerun the same command to "
        "resume. The weights file is written at the end and used with CODEC=FILE."
    )
    add = parser.add_argument
    add_data(parser)
    add("--config", default="frame", metavar="NAME", help="frame, magnitudes, seanet, or a .toml file (frame)")
    add("--run", type=Path, metavar="FOLDER", help="folder of the run (runs/codec-<config>)")
    add("--steps", metavar="N", help="total number of steps (the config's)")
    add("--out", type=Path, metavar="FILE", help=f"weights file to write at the end (RUN/{WEIGHTS})")
    add("--name", metavar="NAME", help="name of the codec in tables (the config's name)")
    add("--gpus", metavar="N", default="1", help="ranks on this machine, one device each (1)")
    add("--device", metavar="NAME", help="cpu or cuda (cuda if available)")
    add("--micro-batch", metavar="N", help="clips a rank computes at once (the config's)")
    parser.set_defaults(command=train_command)


def add_export(parser: argparse.ArgumentParser) -> None:
    """Add the options of `codec export` to `parser`, and set its command to `export_command`."""
    parser.description = (
        "Write the newest averaged weights of a run as the weights file of a codec. With --data, codebooks are fitted "
        "again to latents of that dataset, which takes minutes."
    )
    add = parser.add_argument
    add("run", type=Path, metavar="RUN", help="folder of a run of codec train")
    add("out", type=Path, metavar="FILE", help="weights file to write (.safetensors)")
    add("--name", metavar="NAME", help="name of the codec in tables (the config's name)")
    add("--data", type=Path, metavar="FOLDER", help="fit the codebooks again on the train split of this PVT-audio")
    parser.set_defaults(command=export_command)


def train_command(arguments: argparse.Namespace) -> int:
    """Train a codec and write its weights file unless the run was stopped; return the exit status.

    With several ranks, rank 0 writes the file. If this process starts the ranks (GPUS= above 1), the exit status is
    that of torchrun.

    Raises:
        UserError: invalid options, data, config or run folder, or fewer steps than quantizer.start_step.
    """
    if arguments.out is not None:
        check_out(arguments.out)
    ranks = integer("GPUS", arguments.gpus)
    from training.codec.assembly import load_codec_run
    from training.codec.config import load_codec_config
    from training.codec.task import CodecTask
    from training.distributed import launched, ranks_from
    from training.launch import launch
    from training.runs import RUNS
    from training.trainer import train

    steps = integer_or_none("STEPS", arguments.steps)
    config = load_codec_config(arguments.config, steps)
    if (config.quantizer.start_step or 0) > config.training.steps:
        raise UserError(
            f"STEPS= must be at least quantizer.start_step = {config.quantizer.start_step} of {config.name}, got "
            f"{config.training.steps}; raise it"
        )
    if arguments.micro_batch is not None:
        config = config.replaced("machine", micro_batch=integer("MICRO_BATCH", arguments.micro_batch))
    run = arguments.run or RUNS / f"codec-{config.name}"
    if ranks > 1 and not launched(os.environ):
        return launch(ranks, run, sys.argv[1:])
    stopped = train(run, arguments.data, config, arguments.device, CodecTask)
    if not stopped and ranks_from(os.environ)[0] == 0:
        _write(load_codec_run(run), arguments.out or run / WEIGHTS, arguments.name)
    return 0


def export_command(arguments: argparse.Namespace) -> int:
    """Write the newest averaged weights of a run as a weights file, print its SHA-256, and return the exit status 0.

    With --data, the codebooks are fitted again to latents of that dataset; else they are those of the run.

    Raises:
        UserError: there is no such run or dataset, the codebooks of the run are not fitted yet, or the file does not
            end in .safetensors or cannot be written.
    """
    check_out(arguments.out)
    from training.codec.assembly import load_codec_run

    run = load_codec_run(arguments.run)
    codebooks = None if arguments.data is None else _refit(run, arguments.data)
    _write(run, arguments.out, arguments.name, codebooks)
    return 0


def _refit(run: "CodecRun", data: Path) -> "Tensor":
    """Return codebooks [K, M, D], fitted to about FRAMES latents of the train split of the PVT-audio dataset `data`.

    Latents are those of the codec of `run`; K and M are those of its config. The number of threads of torch is set to
    1.
    """
    import torch

    from training.codec.fit import dataset_clips, fit_codebooks, sampled_latents
    from training.data.dataset import Dataset

    torch.set_num_threads(1)  # results of several threads differ in the last bits
    dataset, quantizer = Dataset(data, "train", format_name="audio"), run.config.quantizer

    generator = torch.Generator().manual_seed(run.config.training.seed)
    with torch.no_grad():
        share = FRAMES / max(1, len(dataset) * dataset.frames)
        latents = sampled_latents(dataset_clips(dataset, len(dataset)), run.codec(), share, generator)
    return fit_codebooks(latents, quantizer.codebooks, quantizer.bins, ITERATIONS, generator)


def _write(run: "CodecRun", out: Path, name: str | None, codebooks: "Tensor | None" = None) -> None:
    digest = run.write(out, name or run.config.name, codebooks)
    print(f"{out}: {run.network.codec.kind} after {run.step} steps, sha256 {digest}")


def check_out(out: Path) -> None:
    """Raise UserError if `out` does not end in .safetensors or cannot be written."""
    if out.suffix != ".safetensors":
        raise UserError(f"OUT= must end in .safetensors, got {out}")
    check_output_file(out)

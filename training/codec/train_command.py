"""`python -m training codec train` and `codec export`: from a PVT-audio dataset to a learned codec's weights file."""

import argparse
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from data_specs.cli import integer
from data_specs.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

    from training.codec.run import CodecRun

FRAMES, ITERATIONS = 65_536, 10  # of k-means over the latents of a trained encoder
WEIGHTS = "codec.safetensors"


def add_train(parser: argparse.ArgumentParser) -> None:
    """Arguments of `codec train`."""
    parser.description = (
        "Trains an encoder, codebooks and a decoder on the train split of a PVT-audio dataset, with the loop of the "
        "diffusion models; the same command continues a run that was stopped. The weights file that it writes at the "
        "end is a codec: use it with CODEC=FILE."
    )
    add = parser.add_argument
    add("--data", type=Path, default=Path("data"), metavar="FOLDER", help="parent folder or PVT-audio (data)")
    add("--config", default="frame", metavar="NAME", help="frame, magnitudes, seanet, or a .toml file (frame)")
    add("--run", type=Path, metavar="FOLDER", help="folder of the run (runs/codec-<config>)")
    add("--steps", metavar="N", help="in all, not in addition (the config's)")
    add("--out", type=Path, metavar="FILE", help=f"weights file to write at the end (RUN/{WEIGHTS})")
    add("--name", metavar="NAME", help="how tables show the codec (the config's name)")
    add("--gpus", metavar="N", default="1", help="ranks on this machine, one device each (1)")
    add("--device", metavar="NAME", help="cpu or cuda (cuda where there is one)")
    add("--micro-batch", metavar="N", help="clips a rank computes at once (the config's)")
    parser.set_defaults(command=train_command)


def add_export(parser: argparse.ArgumentParser) -> None:
    """Arguments of `codec export`."""
    parser.description = (
        "Writes the newest averaged weights of a run as a codec. With --data, its codebooks are fitted anew to what "
        "the encoder makes of that dataset by now, which takes minutes and costs nothing else."
    )
    add = parser.add_argument
    add("run", type=Path, metavar="RUN", help="folder of a run of codec train")
    add("out", type=Path, metavar="FILE", help="weights file to write (.safetensors)")
    add("--name", metavar="NAME", help="how tables show the codec (the config's name)")
    add("--data", type=Path, metavar="FOLDER", help="fit the codebooks anew on the train split of this PVT-audio")
    parser.set_defaults(command=export_command)


def train_command(arguments: argparse.Namespace) -> int:
    """Train, then write the weights file unless the run was stopped; returns the exit status.

    Raises:
        UserError: data, config or run folder that do not fit.
    """
    if arguments.out is not None:
        _check_out(arguments.out)
    ranks = integer("GPUS", arguments.gpus)
    from training.launch import launch, launched

    if ranks > 1 and not launched():
        return launch(ranks, [sys.executable, "-m", "training", *sys.argv[1:]])

    from training.codec.assembly import load_codec_run
    from training.codec.config import load_codec_config
    from training.codec.preview import listen
    from training.codec.task import CodecTask
    from training.trainer import train

    steps = None if arguments.steps is None else integer("STEPS", arguments.steps)
    config = load_codec_config(arguments.config, steps)
    if (config.quantizer.start_step or 0) > config.training.steps:
        raise UserError(
            f"{config.training.steps} steps end before codebooks are fitted, which is at quantizer.start_step = "
            f"{config.quantizer.start_step} of {config.name}; ask for as many steps or more"
        )
    if arguments.micro_batch is not None:
        machine = config.machine.model_copy(update={"micro_batch": integer("MICRO_BATCH", arguments.micro_batch)})
        config = config.model_copy(update={"machine": machine})
    run = arguments.run or Path("runs") / f"codec-{config.name}"
    stopped = train(run, arguments.data, config, arguments.device, listen, CodecTask.of)
    if not stopped and _main_rank():
        _write(load_codec_run(run), arguments.out or run / WEIGHTS, arguments.name)
    return 0


def export_command(arguments: argparse.Namespace) -> int:
    """Write a weights file from a run; returns the exit status.

    Raises:
        UserError: no such run, or no codebooks in it yet.
    """
    _check_out(arguments.out)
    from training.codec.assembly import load_codec_run

    run = load_codec_run(arguments.run)
    codebooks = None if arguments.data is None else _fitted(run, arguments.data)
    _write(run, arguments.out, arguments.name, codebooks)
    return 0


def _fitted(run: "CodecRun", data: Path) -> "Tensor":
    """Codebooks [K, M, D] for the latents that the averaged encoder makes of a dataset."""
    import torch

    from training.codec.fit import fitted_codebooks, sampled_latents
    from training.data.dataset import Dataset

    torch.set_num_threads(1)  # other numbers of threads round differently: the file would not repeat
    dataset, quantizer = Dataset(data, "train", format_name="audio"), run.config.quantizer

    def clips() -> Iterator["Tensor"]:
        for index in range(len(dataset)):
            audio = dataset[index]["data"]
            assert isinstance(audio, torch.Tensor)
            yield audio[None].float()

    generator = torch.Generator().manual_seed(run.config.training.seed)
    with torch.no_grad():
        share = FRAMES / max(1, len(dataset) * dataset.frames)
        latents = sampled_latents(clips(), run.codec(), share, generator)
    return fitted_codebooks(latents, quantizer.codebooks, quantizer.bins, ITERATIONS, generator)


def _write(run: "CodecRun", out: Path, name: str | None, codebooks: "Tensor | None" = None) -> None:
    digest = run.write(out, name or run.config.name, codebooks)
    print(f"{out}: {run.network.codec.kind} after {run.step} steps, sha256 {digest}")


def _check_out(out: Path) -> None:
    if out.suffix != ".safetensors":
        raise UserError(f"OUT={out} must end in .safetensors, for example codec.safetensors")


def _main_rank() -> bool:
    from training.distributed import ranks_from

    return ranks_from(dict(os.environ))[0] == 0

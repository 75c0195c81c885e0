"""`python -m training codec`: from a PVT-audio dataset to a weights file, in closed form or by training."""

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from data_specs.errors import UserError
from training.codec.train_command import add_export, add_train

if TYPE_CHECKING:
    from torch import Tensor


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The commands under `codec`."""
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    fit = commands.add_parser("fit", help="fit a codec in closed form on a PVT-audio dataset")
    fit.description = (
        "Fits the directions and the codebooks of a codec on the train split of a PVT-audio dataset. "
        "Takes minutes on one core; the same data give the same file. Use it with CODEC=FILE."
    )
    fit.add_argument("--kind", default="phaseless", metavar="KIND", help="phaseless or pvt (phaseless)")
    fit.add_argument(
        "--data", type=Path, default=Path("data"), metavar="FOLDER", help="parent folder or PVT-audio (data)"
    )
    fit.add_argument("--out", type=Path, required=True, metavar="FILE", help="weights file to write (.safetensors)")
    fit.add_argument("--name", metavar="NAME", help="how tables show the codec (the file's name)")
    fit.add_argument("--clips", type=int, metavar="N", help="fit on the first N clips only (all)")
    fit.set_defaults(command=fit_command)
    add_train(commands.add_parser("train", help="train a codec by gradient on a PVT-audio dataset"))
    add_export(commands.add_parser("export", help="write a codec in training as a weights file"))


def fit_command(arguments: argparse.Namespace) -> int:
    """Fit on the dataset, write the weights, print their digest; returns the exit status.

    Raises:
        UserError: no PVT-audio dataset there, too little sound in it, or an `out` that is no .safetensors file.
    """
    if arguments.out.suffix != ".safetensors":
        raise UserError(f"OUT={arguments.out} must end in .safetensors, for example codec.safetensors")
    if arguments.clips is not None and arguments.clips < 1:
        raise UserError(f"CLIPS={arguments.clips} must be 1 or more")
    import torch

    from data_specs.io.files import file_sha256
    from training.codec.fit import fit, write
    from training.codec.methods import METHODS
    from training.data.dataset import Dataset

    if arguments.kind not in METHODS:
        raise UserError(f"KIND={arguments.kind} is not one of {', '.join(METHODS)}")
    torch.set_num_threads(1)  # other numbers of threads round differently: the file would not repeat
    dataset = Dataset(arguments.data, "train", format_name="audio")
    count = min(len(dataset), arguments.clips or len(dataset))

    def clips() -> Iterator["Tensor"]:
        for index in range(count):
            audio = dataset[index]["data"]
            assert isinstance(audio, torch.Tensor)
            yield audio[None].float()

    method = METHODS[arguments.kind]()
    write(arguments.out, fit(clips, method, count), method, arguments.name or arguments.out.stem)
    print(f"{arguments.out}: fitted on {count} clips, sha256 {file_sha256(arguments.out)}")
    return 0

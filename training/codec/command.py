"""`python -m training codec`: fit or train a codec on a PVT-audio dataset."""

import argparse
from pathlib import Path

from data_specs.cli import integer_or_none
from data_specs.registry import lookup
from training.codec.train_command import add_export, add_train, check_out
from training.options import add_data


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the subcommands `fit`, `train` and `export` to `parser`, that of the command `codec`."""
    parser.description = "Codecs made for this material."
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    fit = commands.add_parser("fit", help="fit a codec in closed form on a PVT-audio dataset")
    fit.description = (
        "Fit the principal directions and codebooks of a codec on the train split of PVT-audio, in minutes on a core. "
        "The same data give the same file, which is used with CODEC=FILE."
    )
    fit.add_argument("--kind", default="phaseless", metavar="KIND", help="phaseless or pvt (phaseless)")
    add_data(fit)
    fit.add_argument("--out", type=Path, required=True, metavar="FILE", help="weights file to write (.safetensors)")
    fit.add_argument("--name", metavar="NAME", help="name of the codec in tables (the file's name)")
    fit.add_argument("--clips", metavar="N", help="fit on the first N clips only (all)")
    fit.set_defaults(command=fit_command)
    add_train(commands.add_parser("train", help="train a codec by gradient on a PVT-audio dataset"))
    add_export(commands.add_parser("export", help="write the codec of a run as a weights file"))


def fit_command(arguments: argparse.Namespace) -> int:
    """Fit a codec, write its weights file, print the SHA-256 of the file, and return the exit status 0.

    The number of threads of torch is set to 1.

    Raises:
        UserError: no PVT-audio dataset, too little sound in it, an unknown KIND=, CLIPS= that is not an integer above
            0, or OUT= that does not end in .safetensors or cannot be written.
    """
    check_out(arguments.out)
    most = integer_or_none("CLIPS", arguments.clips)
    import torch

    from data_specs.io.files import file_sha256
    from training.codec.fit import dataset_clips, fit, write
    from training.codec.methods import METHODS
    from training.data.dataset import Dataset

    method = lookup(METHODS, arguments.kind, "KIND=")()
    torch.set_num_threads(1)  # results of several threads differ in the last bits
    dataset = Dataset(arguments.data, "train", format_name="audio")
    count = min(len(dataset), most or len(dataset))

    fitted = fit(lambda: dataset_clips(dataset, count), method, count)
    write(arguments.out, fitted, method, arguments.name or arguments.out.stem)
    print(f"{arguments.out}: fitted on {count} clips, sha256 {file_sha256(arguments.out)}")
    return 0

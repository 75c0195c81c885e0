"""The command line of training: one line in COMMANDS per command; heavy imports stay inside the commands."""

import argparse
import os
import sys
from pathlib import Path

from data_specs.cli import Commands, add_threads, integer, integer_or_none, run_commands, use_threads
from data_specs.errors import UserError
from data_specs.io.files import check_output_folder
from data_specs.threads import set_threads
from training.runs import RUNS, recorded_config, run_folder, runs_table


def main(argv: list[str] | None = None, prog: str = "python -m training") -> int:
    """Run the command that `argv` names (None: the arguments of this process) and return its exit status.

    `prog` is the name of the program in help texts.
    """
    return run_commands(COMMANDS, argv, prog, "Train diffusion models, sample from them and evaluate them.")


def _add_train(parser: argparse.ArgumentParser) -> None:
    parser.description = "Train until the config's last step; the same command resumes a run that was stopped."
    add = parser.add_argument
    add("--paradigm", required=True, metavar="NAME", help="ddpm, edm, discdpm or consistency")
    add("--format", metavar="NAME", help="encodec or cqt; disc for discdpm (encodec; disc)")
    add("--data", type=Path, default=Path("data"), metavar="FOLDER", help="parent folder or one PVT-<format> (data)")
    add("--config", default="tiny", metavar="NAME", help="tiny, small, paper, best, student, or a .toml file (tiny)")
    add("--run", type=Path, metavar="FOLDER", help="folder of the run (runs/<paradigm>-<format>-<config>)")
    add("--steps", metavar="N", help="total number of steps (the config's)")
    add("--gpus", metavar="N", default="1", help="ranks on this machine, one device each (1)")
    add("--device", metavar="NAME", help="cpu, cuda or mps (cuda if available)")
    add("--dry-run", action="store_true", help="compute one loss, print what the run would do, write nothing")
    add("--threads", metavar="N", help="threads on a CPU (those of the run so far, else the fastest number)")
    add("--set", default="", metavar="PAIRS", help='config keys, as "training.batch=16 training.learning_rate=1e-4"')
    add("--spec", metavar="NAME", help="spec of the dataset, part of the default --run (sample)")
    add("--init", metavar="MODEL", help="start from the weights of a model: edm, a run folder or a snapshot (none)")
    add("--resume", type=Path, metavar="FILE", help="continue an `export --to resumable` of another machine")
    add("--micro-batch", metavar="N", help="clips a rank computes at once (the config's)")
    parser.set_defaults(command=_train)


def _train(arguments: argparse.Namespace) -> int:
    from training.config import load_config

    ranks = integer("GPUS", arguments.gpus)
    steps = integer_or_none("STEPS", arguments.steps)
    config = load_config(arguments.config, arguments.paradigm, arguments.format, steps, arguments.set)
    if arguments.micro_batch is not None:
        config = config.replaced("machine", micro_batch=integer("MICRO_BATCH", arguments.micro_batch))
    folder = arguments.run or run_folder(config.paradigm, config.format, config.name, arguments.spec)
    if ranks > 1 and not arguments.dry_run:
        from training.distributed import launched
        from training.launch import launch

        if not launched(os.environ):
            return launch(ranks, folder, sys.argv[1:])
    from training.diffusion import PARADIGMS
    from training.diffusion_task import DiffusionTask
    from training.distillation_task import DistillationTask
    from training.trainer import train

    recorded = (recorded_config(folder) or {"machine": {}})["machine"].get("threads")
    threads = recorded if arguments.threads is None else integer("THREADS", arguments.threads)
    config = config.replaced("machine", threads=set_threads(threads))
    make = DistillationTask if PARADIGMS[config.paradigm].distilled else DiffusionTask
    init = None if arguments.init is None else Path(arguments.init)
    if arguments.resume is not None and init is not None:
        raise UserError(
            "INIT= and RESUME= must not be given together, since each defines the initial weights; remove one"
        )
    more = {"dry_run": arguments.dry_run, "init": init, "resume": arguments.resume}
    train(folder, arguments.data, config, arguments.device, make, **more)
    return 0


def _add_runs(parser: argparse.ArgumentParser) -> None:
    parser.description = "List the runs of a folder with their state and last losses."
    parser.add_argument("--out", type=Path, default=RUNS, metavar="FOLDER", help="parent folder of the runs (runs)")
    parser.set_defaults(command=_runs)


def _runs(arguments: argparse.Namespace) -> int:
    print(runs_table(arguments.out))
    return 0


def _add_format(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Print the format that a paradigm is trained on; exit with an error if it does not support the requested one."
    )
    parser.add_argument("paradigm", help="ddpm, edm, discdpm or consistency")
    parser.add_argument("format", nargs="?", help="the requested format (the paradigm's default)")
    parser.set_defaults(command=_format)


def _format(arguments: argparse.Namespace) -> int:
    from training.config import check_pair

    print(check_pair(arguments.paradigm, arguments.format))
    return 0


def _add_toys(parser: argparse.ArgumentParser) -> None:
    parser.description = "Train the paradigms on two-dimensional data; write a figure of each and toys.json."
    add = parser.add_argument
    add("--out", type=Path, default=Path("toys"), metavar="FOLDER", help="where to write (toys)")
    add("--only", metavar="NAMES", help="a comma list of experiments (all)")
    add("--mnist", type=Path, metavar="FILE", help="MNIST images instead of scikit-learn's digits")
    add("--seed", metavar="N", default="0", help="seed of initial weights and random numbers (0)")
    add_threads(parser)
    parser.set_defaults(command=_toys)


def _toys(arguments: argparse.Namespace) -> int:
    from training import toys

    names = toys.NAMES if arguments.only is None else arguments.only.split(",")
    check_output_folder(arguments.out)
    use_threads(arguments)
    toys.run(arguments.out, names, arguments.mnist, integer("SEED", arguments.seed, least=0))
    return 0


COMMANDS: Commands = {
    "train": ("train a diffusion model on a dataset", _add_train),
    "sample": ("write new clips that follow curves", "training.sampling.commands:add_sample"),
    "runs": ("list runs with their state and losses", _add_runs),
    "export": ("write a model as one small file, or as ONNX graphs", "training.export.commands:add_export"),
    "card": ("write a model card", "training.export.commands:add_card"),
    "sweep": ("measure how sampling options change quality", "training.evaluation.commands:add_sweep"),
    "demo": ("a page with the samples of several runs side by side", "training.sampling.commands:add_demo"),
    "evaluate": (
        "measure trained runs: distance to real audio, control adherence, time, size",
        "training.evaluation.commands:add_evaluate",
    ),
    "judges": ("fetch the weights of the external judges", "training.evaluation.commands:add_judges"),
    "classifier": ("train the instrument classifier of the measures", "training.evaluation.commands:add_classifier"),
    "format": ("print the format a paradigm is trained on", _add_format),
    "toys": ("run the first experiments: swiss roll, digits, small codes", _add_toys),
    "codec": ("fit or train a codec", "training.codec.command:add_arguments"),
}

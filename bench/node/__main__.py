"""Campaign on a GPU node in calls of a few minutes: `python -m bench.node --out OUT`.

Stages: rendering clips of permutations of the train tunes; training of four models for equal seconds, and their scores;
further training of the main model (EDM on encodec). The same command resumes. On a new machine, --state names the
output of the last call. Neither network nor make is needed.
"""

import argparse
import importlib.util
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from data_specs.cli import MISUSED, Parser, integer, run
from data_specs.errors import UserError

HANDOVER_SECONDS = 10.0  # of each call, for writing its output after commands have stopped
UNFINISHED = 3  # exit status: the same command resumes
TRAINING = ("torch", "google_crc32c", "matplotlib", "pydantic", "safetensors", "scipy", "soundfile", "tensorboard")
RENDERING = ("dask", "distributed", "fluidsynth", "mido", "psutil", "pyarrow", "symusic")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line (None: the arguments of this process) and return the exit status of `node`."""
    parser = Parser(
        prog="python -m bench.node", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--out", type=Path, required=True, metavar="FOLDER", help="folder of the output, at most eight files")
    add("--work", type=Path, metavar="FOLDER", help="folder of the state for the next call (OUT-work, beside OUT)")
    add("--state", type=Path, metavar="FOLDER", help="output of an earlier call, if WORK is lost")
    add("--minutes", default="10", metavar="N", help="limit of this call (10)")
    add("--config", default="gpu", metavar="NAME", help="a config's name or .toml file, with all formats (gpu)")
    add("--models", metavar="NAMES", help="models to compare (edm-encodec,ddpm-encodec,discdpm-disc,edm-cqt)")
    add("--equal-seconds", default="60", metavar="S", help="of training for each model (60)")
    add("--main-seconds", default="600", metavar="S", help="of training for the main model in total (600)")
    add("--save-seconds", default="60", metavar="S", help="seconds between exports of the model in training (60)")
    add("--clips", default="40000:500", metavar="TRAIN:VALID", help="sizes of encodec (40000:500)")
    add("--fewer", default="2000:500", metavar="TRAIN:VALID", help="sizes of audio, cqt and disc (2000:500)")
    add("--spec", default="expressive", metavar="NAME", help="spec of the datasets (expressive)")
    add("--data", type=Path, metavar="FOLDER", help="existing datasets of all formats, instead of rendering")
    add("--scored", default="160", metavar="N", help="generated clips for each score (160)")
    add("--sampler-steps", default="", metavar="PAIRS", help="for example ddpm-encodec=50,discdpm-disc=25")
    add("--device", choices=["cpu", "cuda"], help="device (cuda if available)")
    parser.set_defaults(command=node)
    return run(parser, list(sys.argv[1:] if argv is None else argv))


def node(arguments: argparse.Namespace) -> int:
    """Run one call; return 0 if all stages are done, UNFINISHED if another call is needed, MISUSED if a stage failed.

    In all three cases the output is written to --out.

    Raises:
        UserError: an option is invalid, a package is missing, or another call uses the folder of the state.
    """
    started = time.monotonic()  # heavy imports count as part of the call
    needed = (*TRAINING, *(RENDERING if arguments.data is None else ()))
    if lacking := [name for name in needed if importlib.util.find_spec(name) is None]:
        raise UserError(
            f"the modules {', '.join(lacking)} must be importable; unpack the wheels that hold them (fluidsynth is in "
            "pyfluidsynth) into a folder of PYTHONPATH"
        )

    from bench.node.artifacts import restore, write_artifacts
    from bench.node.campaign import Campaign
    from bench.node.work import GRACE_SECONDS, OutOfTime, TimeBudget
    from data_specs.io.locks import locked
    from training.stopping import handled

    out = arguments.out.resolve()
    work = (arguments.work or out.with_name(f"{out.name}-work")).resolve()
    seconds = 60 * integer("MINUTES", arguments.minutes) - GRACE_SECONDS - HANDOVER_SECONDS
    budget = TimeBudget(work, seconds - (time.monotonic() - started))
    campaign = Campaign.parse(arguments, budget, out)
    out.mkdir(parents=True, exist_ok=True)
    with locked(work / ".lock", f"the folder {work}"):
        try:
            with handled(lambda *_: budget.expire()):
                if arguments.state is not None:
                    restore(budget, arguments.state)
                campaign.run()
            state, status = "Everything is done; a larger --main-seconds trains the main model longer.", 0
        except OutOfTime:
            state, status = "The time is up; run the same command to resume.", UNFINISHED
        except UserError as error:
            state, status = f"error: {error}", MISUSED
        write_artifacts(budget, state, out)
    print(state, file=sys.stderr if status == MISUSED else sys.stdout, flush=True)
    print(f"{out}: {', '.join(sorted(path.name for path in out.iterdir() if path.is_file()))}", flush=True)
    return status


if __name__ == "__main__":
    sys.exit(main())

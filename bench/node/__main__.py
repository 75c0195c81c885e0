"""Campaign on a borrowed GPU, in calls of a few minutes: `python -m bench.node --out OUT`.

Renders clips of permutations of the project's train tunes, trains four models for equally many seconds and scores each,
then trains the main model (EDM on encodec) on with the remaining time. Run the same command again to resume. Where the
machine is bare again, give what came back: --state OUT-OF-THE-LAST-CALL. Needs neither network nor make.
"""

import argparse
import importlib.util
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from data_specs.cli import MISUSED, Parser, integer, run
from data_specs.errors import UserError

HANDOVER_SECONDS = 10.0  # of each call, to write what it hands back, after what runs has had its time to stop
UNFINISHED = 3  # exit status: the same command resumes
TRAINING = ("torch", "google_crc32c", "matplotlib", "pydantic", "safetensors", "scipy", "soundfile", "tensorboard")
RENDERING = ("dask", "distributed", "fluidsynth", "mido", "psutil", "pyarrow", "symusic")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line."""
    parser = Parser(
        prog="python -m bench.node", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--out", type=Path, required=True, metavar="FOLDER", help="what is handed back: at most eight files")
    add("--work", type=Path, metavar="FOLDER", help="state that the next call resumes from (OUT-work, beside OUT)")
    add("--state", type=Path, metavar="FOLDER", help="files of an earlier call, where WORK is lost")
    add("--minutes", default="10", metavar="N", help="limit of this call (10)")
    add("--config", default="gpu", metavar="NAME", help="a config's name or .toml file, with all formats (gpu)")
    add("--models", metavar="NAMES", help="of the comparison (edm-encodec,ddpm-encodec,discdpm-disc,edm-cqt)")
    add("--equal-seconds", default="60", metavar="S", help="of training for each model (60)")
    add("--main-seconds", default="600", metavar="S", help="of training for the main model in total (600)")
    add("--save-seconds", default="60", metavar="S", help="between exports of a model that is trained (60)")
    add("--clips", default="40000:500", metavar="TRAIN:VALID", help="of encodec (40000:500)")
    add("--fewer", default="2000:500", metavar="TRAIN:VALID", help="of audio, cqt and disc (2000:500)")
    add("--spec", default="expressive", metavar="NAME", help="of the datasets (expressive)")
    add("--data", type=Path, metavar="FOLDER", help="existing datasets of all formats, instead of rendering")
    add("--scored", default="160", metavar="N", help="generated clips of each score (160)")
    add("--sampler-steps", default="", metavar="PAIRS", help="for example ddpm-encodec=50,discdpm-disc=25")
    add("--device", choices=["cpu", "cuda"], help="(cuda where there is one)")
    parser.set_defaults(command=node)
    return run(parser, list(sys.argv[1:] if argv is None else argv))


def node(arguments: argparse.Namespace) -> int:
    """Run one call; returns 0 when everything is done, `UNFINISHED` when another call is needed.

    Raises:
        UserError: an option is invalid, or a package is missing.
    """
    started = time.monotonic()  # heavy imports count as part of the call
    needed = (*TRAINING, *(RENDERING if arguments.data is None else ()))
    if lacking := [name for name in needed if importlib.util.find_spec(name) is None]:
        raise UserError(f"{', '.join(lacking)} must be installed; unpack their wheels into a folder of PYTHONPATH")

    from bench.node.artifacts import restore, write_artifacts
    from bench.node.campaign import Campaign
    from bench.node.work import GRACE_SECONDS, OutOfTime, TimeBudget
    from data_specs.io.locks import locked

    out = arguments.out.resolve()
    work = (arguments.work or out.with_name(f"{out.name}-work")).resolve()
    seconds = 60 * integer("MINUTES", arguments.minutes) - GRACE_SECONDS - HANDOVER_SECONDS
    budget = TimeBudget(work, seconds - (time.monotonic() - started))
    campaign = Campaign.parse(arguments, budget, out)
    out.mkdir(parents=True, exist_ok=True)
    with locked(work / ".lock", f"the folder {work}"):
        before = {name: signal.signal(name, lambda *_: budget.expire()) for name in (signal.SIGTERM, signal.SIGINT)}
        try:
            if arguments.state is not None:
                restore(budget, arguments.state)
            campaign.run()
            state, status = "Everything is done; a larger --main-seconds trains the main model longer.", 0
        except OutOfTime:
            state, status = "The time is up; run the same command to resume.", UNFINISHED
        except UserError as error:
            state, status = f"error: {error}", MISUSED
        finally:
            for name, handler in before.items():
                signal.signal(name, handler)
        write_artifacts(budget, state, out)
    print(state, file=sys.stderr if status == MISUSED else sys.stdout, flush=True)
    print(f"{out}: {', '.join(sorted(path.name for path in out.iterdir() if path.is_file()))}", flush=True)
    return status


if __name__ == "__main__":
    sys.exit(main())

"""Benchmark of one GPU node in ten minutes: `python -m bench.node --out OUT`.

Renders and encodes as many clips as the time allows, trains EDM and DDPM on encodec, DiscDPM on disc and EDM on cqt for
equally many seconds, samples the shipped curves, evaluates all four, and writes the results to OUT (see artifacts.py).
Run the same command again to resume; when everything is done, a larger --train-seconds trains the same models longer.
Needs neither network nor make; every step runs in the `python` that runs this command.
"""

import argparse
import math
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from bench.node import requirements
from data_specs.cli import MISUSED, Parser, run
from data_specs.errors import UserError

if TYPE_CHECKING:
    from bench.node.stages import NodeOptions
    from bench.node.work import Facts, TimeBudget

SHARES = "25:40:35"
HANDOVER_SECONDS = 10.0  # of each budget, to write what it leaves, after what runs has had its time to stop
UNFINISHED = 3  # exit status: the same command resumes


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line."""
    parser = Parser(
        prog="python -m bench.node", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--out", type=Path, required=True, metavar="FOLDER", help="artifacts: at most eight files")
    add("--work", type=Path, metavar="FOLDER", help="state that the next call resumes from (OUT-work, beside OUT)")
    add("--minutes", default="10", metavar="N", help="limit of this call (10)")
    add("--config", default="tiny", metavar="NAME", help="tiny, paper, best, or a .toml file with all formats (tiny)")
    add("--share", default=SHARES, metavar="A:B:C", help=f"of the time: clips, training, results ({SHARES})")
    add("--train-seconds", metavar="S", help="of each model, in total (from --share in the first call)")
    add("--data", type=Path, metavar="FOLDER", help="existing datasets, used instead of rendering")
    add("--spec", default="sample", metavar="NAME", help="of the datasets: sample, pvt, or a .toml file (sample)")
    add("--midi", metavar="PATH", help="folder or tar.gz of MIDI files (the spec's)")
    add("--clips", metavar="TRAIN:VALID", help="upper limit (what time, disk and melodies allow)")
    add("--judge", metavar="N", help="clips evaluated for each model (200 on a GPU, 16 on a CPU)")
    add("--sampler-steps", metavar="N", help="(published; on a CPU 50 where that is a thousand)")
    add("--vggish", metavar="FILE", help="VGGish's weights ($PVT_VGGISH; nothing is downloaded)")
    add("--device", choices=["cpu", "cuda"], help="(cuda where there is one)")
    parser.set_defaults(command=node)
    return run(parser, list(sys.argv[1:] if argv is None else argv))


def node(arguments: argparse.Namespace) -> int:
    """Run one call; returns 0 when everything is done, `UNFINISHED` when another call is needed.

    Raises:
        UserError: a requirement is missing or a step failed; the artifacts so far have been written.
    """
    started = time.monotonic()  # heavy imports count as part of the call
    seconds = 60 * positive("--minutes", arguments.minutes)
    requirements.check(render=arguments.data is None)

    from bench.node.work import GRACE_SECONDS, TimeBudget
    from data_specs.io.locks import locked

    options = parse_options(arguments)
    out = arguments.out.resolve()
    work = (arguments.work or out.with_name(f"{out.name}-work")).resolve()
    out.mkdir(parents=True, exist_ok=True)
    with locked(work / ".lock", f"the folder {work}"):
        spent = time.monotonic() - started
        budget = TimeBudget(work, max(1.0, seconds - spent - GRACE_SECONDS - HANDOVER_SECONDS))
        before = {number: signal.signal(number, expire_on_signal(budget)) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            return run_call(budget, options, out)
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def run_call(budget: "TimeBudget", options: "NodeOptions", out: Path) -> int:
    """Run the stages as far as time allows and write the artifacts; returns the exit status."""
    from bench.node.stages import end, stages
    from bench.node.work import OutOfTime

    found: Facts = {"machine": "unknown", "versions": "unknown", "clips": {}, "training": {}, "evaluation": {}}
    try:
        stages(budget, options, found)
        state, status = "Everything is done; a larger --train-seconds trains the same models longer.", 0
    except OutOfTime:
        state, status = "The time is up; run the same command to resume.", UNFINISHED
    except UserError as error:
        state, status = f"error: {error}", MISUSED
    end(budget, options, found, state, out)
    print(state, file=sys.stderr if status == MISUSED else sys.stdout, flush=True)
    print(f"{out}: {', '.join(sorted(path.name for path in out.iterdir() if path.is_file()))}", flush=True)
    return status


def expire_on_signal(budget: "TimeBudget") -> Callable[[int, FrameType | None], None]:
    """Return a signal handler that expires the budget, so that commands stop and artifacts are written."""

    def handle(number: int, frame: FrameType | None) -> None:
        budget.expire()

    return handle


def parse_options(arguments: argparse.Namespace) -> "NodeOptions":
    """The arguments, read.

    Raises:
        UserError: an option is invalid.
    """
    from bench.node.clips import RenderOptions
    from bench.node.models import MODELS
    from bench.node.stages import NodeOptions
    from data_specs.spec import ClipCounts
    from training.config import load_config

    for model in MODELS:  # refuse an unsuitable config before anything is rendered
        load_config(arguments.config, model.paradigm, model.format)
    most = None if arguments.clips is None else ClipCounts.parse(arguments.clips)
    return NodeOptions(
        shares=parse_shares(arguments.share),
        source=RenderOptions(resolved(arguments.spec), resolved(arguments.midi), most),
        data=None if arguments.data is None else arguments.data.resolve(),
        config=arguments.config,
        train_seconds=None if arguments.train_seconds is None else positive("--train-seconds", arguments.train_seconds),
        evaluated=None if arguments.judge is None else integer("--judge", arguments.judge, least=2),
        sampler_steps=None if arguments.sampler_steps is None else integer("--sampler-steps", arguments.sampler_steps),
        vggish=resolved(arguments.vggish),
        device=arguments.device,
    )


def resolved(name: str | None) -> str | None:
    """Absolute path of an existing file, since commands run in the project's folder; other names unchanged."""
    return str(Path(name).resolve()) if name is not None and Path(name).exists() else name


def parse_shares(text: str) -> tuple[float, float, float]:
    """Parse `"25:40:35"` into shares that sum to 1.

    Raises:
        UserError: not three numbers above 0.
    """
    try:
        first, second, third = (positive("--share", part) for part in text.split(":"))
    except (ValueError, UserError):
        raise UserError(f"--share must be three numbers above 0 such as {SHARES}, got {text}") from None
    total = first + second + third
    return first / total, second / total, third / total


def positive(name: str, text: str) -> float:
    """Parse a number above 0.

    Raises:
        UserError: it is not one.
    """
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 < number < 1e6:
        raise UserError(f"{name} must be a number above 0, got {text}")
    return number


def integer(name: str, text: str, least: int = 1) -> int:
    """Parse an integer >= `least`.

    Raises:
        UserError: it is not one.
    """
    number = positive(name, text)
    if number != int(number) or number < least:
        raise UserError(f"{name} must be an integer >= {least}, got {text}")
    return int(number)


if __name__ == "__main__":
    sys.exit(main())

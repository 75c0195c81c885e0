"""`python -m bench.node --out OUT`: what a borrowed GPU is good for, in one command of ten minutes.

Renders and encodes as many clips as its time allows, trains EDM and DDPM on encodec, DiscDPM on disc and EDM on cqt for
equally many seconds, samples the shipped curves, evaluates all four, and leaves the results in OUT (see handover.py).
The same command goes on where it was cut; when everything is done, more --train-seconds train the same models longer.
Needs no network, no make and no environment: the `python` that runs this runs all of it.
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

from bench.node import requirements as needs
from data_specs.cli import MISUSED, Parser, run
from data_specs.errors import UserError

if TYPE_CHECKING:
    from bench.node.stages import Wishes
    from bench.node.work import Call, Facts

SHARES = "25:40:35"
HANDOVER_SECONDS = 10.0  # of each call, to write what it leaves, after what runs has had its time to stop
UNFINISHED = 3  # exit status: the same command goes on


def main(argv: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = Parser(
        prog="python -m bench.node", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--out", type=Path, required=True, metavar="FOLDER", help="what comes back: at most eight files")
    add("--work", type=Path, metavar="FOLDER", help="what the next call goes on from (OUT/work)")
    add("--minutes", default="10", metavar="N", help="the longest that this call may take (10)")
    add("--config", default="tiny", metavar="NAME", help="tiny, paper, best, or a .toml file with all formats (tiny)")
    add("--share", default=SHARES, metavar="A:B:C", help=f"of the time: clips, training, results ({SHARES})")
    add("--train-seconds", metavar="S", help="of each model, in all (what the share gave in the first call)")
    add("--data", type=Path, metavar="FOLDER", help="datasets that stand already: nothing is rendered")
    add("--spec", default="sample", metavar="NAME", help="of the datasets: sample, pvt, or a .toml file (sample)")
    add("--midi", metavar="PATH", help="folder or tar.gz of MIDI files (the spec's)")
    add("--clips", metavar="TRAIN:VALID", help="at most so many (what time, disk and melodies allow)")
    add("--judge", metavar="N", help="clips each model is judged by (200 on a GPU, 16 on a CPU)")
    add("--sampler-steps", metavar="N", help="(published; on a CPU 50 where that is a thousand)")
    add("--vggish", metavar="FILE", help="VGGish's weights ($PVT_VGGISH; nothing is downloaded)")
    add("--device", choices=["cpu", "cuda"], help="(cuda where there is one)")
    parser.set_defaults(command=node)
    return run(parser, list(sys.argv[1:] if argv is None else argv))


def node(options: argparse.Namespace) -> int:
    """One call; returns 0 when nothing is left to do, `UNFINISHED` when the next call goes on.

    Raises:
        UserError: something is missing, or failed for good; what there is has been handed over.
    """
    started = time.monotonic()  # the heavy imports are part of a call's time
    seconds = 60 * positive("--minutes", options.minutes)
    needs.check(render=options.data is None)

    from bench.node.work import GRACE_SECONDS, Call
    from data_specs.io.files import locked

    wishes = wishes_of(options)
    out = options.out.resolve()
    work = (options.work or out / "work").resolve()
    out.mkdir(parents=True, exist_ok=True)
    with locked(work / ".lock", f"the folder {work}"):
        spent = time.monotonic() - started
        call = Call(work, max(1.0, seconds - spent - GRACE_SECONDS - HANDOVER_SECONDS))
        before = {number: signal.signal(number, ends(call)) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            return one_call(call, wishes, out)
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def one_call(call: "Call", wishes: "Wishes", out: Path) -> int:
    """The stages as far as time allows, then the handing over; the exit status."""
    from bench.node.stages import end, stages
    from bench.node.work import OutOfTime

    found: Facts = {"machine": "unknown", "versions": "unknown", "clips": {}, "training": {}, "evaluation": {}}
    try:
        stages(call, wishes, found)
        state, status = "Everything is done; more --train-seconds train the same models longer.", 0
    except OutOfTime:
        state, status = "The time is up; the same command goes on.", UNFINISHED
    except UserError as error:
        state, status = f"error: {error}", MISUSED
    end(call, wishes, found, state, out)
    print(state, file=sys.stderr if status == MISUSED else sys.stdout, flush=True)
    print(f"{out}: {', '.join(sorted(path.name for path in out.iterdir() if path.is_file()))}", flush=True)
    return status


def ends(call: "Call") -> Callable[[int, FrameType | None], None]:
    """A signal handler that ends the call's time: what runs is stopped in its own way, what there is handed over."""

    def handle(number: int, frame: FrameType | None) -> None:
        call.end()

    return handle


def wishes_of(options: argparse.Namespace) -> "Wishes":
    """The options, read.

    Raises:
        UserError: one that is not understood.
    """
    from bench.node.clips import Source
    from bench.node.models import MODELS
    from bench.node.stages import Wishes
    from data_specs.spec import Clips
    from training.config import load_config

    for model in MODELS:  # a config that cannot train one of them is refused before anything is rendered
        load_config(options.config, model.paradigm, model.format)
    most = None if options.clips is None else Clips.parse(options.clips)
    return Wishes(
        shares=parse_shares(options.share),
        source=Source(resolved(options.spec), resolved(options.midi), most),
        data=None if options.data is None else options.data.resolve(),
        config=options.config,
        train_seconds=None if options.train_seconds is None else positive("--train-seconds", options.train_seconds),
        judged=None if options.judge is None else whole("--judge", options.judge, least=2),
        sampler_steps=None if options.sampler_steps is None else whole("--sampler-steps", options.sampler_steps),
        vggish=resolved(options.vggish),
        device=options.device,
    )


def resolved(name: str | None) -> str | None:
    """A file's whole path, since commands run in the project's folder; names and addresses as they are."""
    return str(Path(name).resolve()) if name is not None and Path(name).exists() else name


def parse_shares(text: str) -> tuple[float, float, float]:
    """`"25:40:35"` -> shares that add up to 1.

    Raises:
        UserError: not three numbers above 0.
    """
    try:
        first, second, third = (positive("--share", part) for part in text.split(":"))
    except (ValueError, UserError):
        raise UserError(f"--share {text} is not understood; write three numbers above 0 such as {SHARES}") from None
    total = first + second + third
    return first / total, second / total, third / total


def positive(name: str, text: str) -> float:
    """A number above 0.

    Raises:
        UserError: it is none.
    """
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 < number < 1e6:
        raise UserError(f"{name} {text} is not a number above 0; give one")
    return number


def whole(name: str, text: str, least: int = 1) -> int:
    """A whole number of `least` or more.

    Raises:
        UserError: it is none.
    """
    number = positive(name, text)
    if number != int(number) or number < least:
        raise UserError(f"{name} {text} is not a whole number of {least} or more; give one")
    return int(number)


if __name__ == "__main__":
    sys.exit(main())

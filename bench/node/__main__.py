"""Campaign on a borrowed GPU, in calls of a few minutes: `python -m bench.node --out OUT`.

Renders clips of permutations of the project's train tunes, trains four models for equally many seconds and scores each,
then trains the main model (EDM on encodec) on with the remaining time. Run the same command again to resume. Where the
machine is bare again, give what came back: --state OUT-OF-THE-LAST-CALL. Needs neither network nor make.
"""

import argparse
import importlib.util
import json
import os
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from data_specs.cli import MISUSED, Parser, integer, number, run
from data_specs.errors import UserError

if TYPE_CHECKING:
    from bench.node.models import Model
    from bench.node.work import Facts, TimeBudget

HANDOVER_SECONDS = 10.0  # of each call, to write what it hands back, after what runs has had its time to stop
UNFINISHED = 3  # exit status: the same command resumes
CLIPS_PER_SONG = 40  # that a permuted tune gives, about
GUIDANCE = (1.0, 1.5, 2.0)  # of the scores of the main model
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


@dataclass(frozen=True)
class CampaignOptions:
    """The options, read. Paths are absolute, since commands run in the project's folder."""

    models: "tuple[Model, ...]"
    sampler_steps: Mapping[str, int]
    clips: Mapping[str, str]  # by format
    config: str
    spec: str
    data: Path | None
    equal_seconds: float
    main_seconds: float
    save_seconds: int
    scored: int
    device: tuple[str, ...]  # option of the commands


def parse_options(arguments: argparse.Namespace) -> CampaignOptions:
    """Check the options.

    Raises:
        UserError: an option is invalid.
    """
    from bench.node.models import MODELS
    from data_specs.formats import FORMATS
    from data_specs.spec import ClipCounts
    from training.config import load_config

    known = {model.name: model for model in MODELS}
    names = arguments.models.split(",") if arguments.models else list(known)
    steps = dict(pair.partition("=")[::2] for pair in arguments.sampler_steps.split(",") if pair)
    if unknown := {*names, *steps} - {*known}:
        raise UserError(f"--models and --sampler-steps must name {', '.join(known)}, got {', '.join(sorted(unknown))}")
    for name in names:  # refuse an unsuitable config before anything is rendered
        load_config(arguments.config, known[name].paradigm, known[name].format)
    for text in (arguments.clips, arguments.fewer):
        ClipCounts.parse(text)
    return CampaignOptions(
        models=tuple(known[name] for name in names),
        sampler_steps={
            name: integer("SAMPLER_STEPS", steps[name]) if name in steps else model.sampler_steps
            for name, model in known.items()
        },
        clips={name: arguments.clips if name == "encodec" else arguments.fewer for name in FORMATS},
        config=_resolved(arguments.config),
        spec=_resolved(arguments.spec),
        data=None if arguments.data is None else arguments.data.resolve(),
        equal_seconds=positive("EQUAL_SECONDS", arguments.equal_seconds),
        main_seconds=positive("MAIN_SECONDS", arguments.main_seconds),
        save_seconds=integer("SAVE_SECONDS", arguments.save_seconds),
        scored=integer("SCORED", arguments.scored, least=2),
        device=() if arguments.device is None else ("--device", arguments.device),
    )


def _resolved(name: str) -> str:
    return str(Path(name).resolve()) if Path(name).is_file() else name


def positive(name: str, text: str) -> float:
    """Parse the number above 0 of a make variable or option.

    Raises:
        UserError: it is not one.
    """
    value = number(name, text)
    if value <= 0:
        raise UserError(f"{name}= must be a number above 0, got {text}")
    return value


def node(arguments: argparse.Namespace) -> int:
    """Run one call; returns 0 when everything is done, `UNFINISHED` when another call is needed.

    Raises:
        UserError: an option is invalid, or a package is missing.
    """
    started = time.monotonic()  # heavy imports count as part of the call
    needed = (*TRAINING, *(RENDERING if arguments.data is None else ()))
    if lacking := [name for name in needed if importlib.util.find_spec(name) is None]:
        raise UserError(f"{', '.join(lacking)} must be installed; unpack their wheels into a folder of PYTHONPATH")
    seconds = 60 * positive("MINUTES", arguments.minutes)

    from bench.node.artifacts import restore, write_artifacts
    from bench.node.work import GRACE_SECONDS, OutOfTime, TimeBudget
    from data_specs.io.locks import locked

    options = parse_options(arguments)
    out = arguments.out.resolve()
    work = (arguments.work or out.with_name(f"{out.name}-work")).resolve()
    out.mkdir(parents=True, exist_ok=True)
    with locked(work / ".lock", f"the folder {work}"):
        budget = TimeBudget(work, max(1.0, seconds - (time.monotonic() - started) - GRACE_SECONDS - HANDOVER_SECONDS))
        before = {
            number: signal.signal(number, lambda *_: budget.expire()) for number in (signal.SIGTERM, signal.SIGINT)
        }
        try:
            if arguments.state is not None:
                restore(budget, arguments.state)
            campaign(budget, options, out)
            state, status = "Everything is done; a larger --main-seconds trains the main model longer.", 0
        except OutOfTime:
            state, status = "The time is up; run the same command to resume.", UNFINISHED
        except UserError as error:
            state, status = f"error: {error}", MISUSED
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
        write_artifacts(budget, state, out)
    print(state, file=sys.stderr if status == MISUSED else sys.stdout, flush=True)
    print(f"{out}: {', '.join(sorted(path.name for path in out.iterdir() if path.is_file()))}", flush=True)
    return status


def campaign(budget: "TimeBudget", options: CampaignOptions, out: Path) -> None:
    """Run the stages in order: the models at equal seconds, the main model, the page.

    Raises:
        OutOfTime: the rest is for the next call.
        UserError: a step failed.
    """
    from bench.node.models import MAIN, snapshot_file, train

    def measured(*probed: str) -> "Facts":
        found: Facts = json.loads(budget.python("probe", ["-m", "bench.node.probe", *probed]))
        return found

    def trained(model: "Model", seconds: float) -> "Facts":
        data = dataset(budget, options, model.format)
        step = measured("--step", model.paradigm, model.format, options.config, str(data))
        saving = options.save_seconds
        far = train(budget, model, options.config, data, seconds, out, saving, options.device)
        print(f"{model.name}: {far['steps']:,} steps in {far['train_seconds']:.1f} s", flush=True)
        return {**far, **step, "sampler_steps": options.sampler_steps[model.name]}

    def compared(model: "Model") -> "Facts":
        far = trained(model, options.equal_seconds)
        return {**far, "row": score(budget, options, model)}

    def favoured() -> "Facts":
        far = trained(MAIN, options.main_seconds)
        return {**far, "rows": [score(budget, options, MAIN, guidance) for guidance in GUIDANCE]}

    budget.run_step("machine", {"python": sys.executable}, lambda: measured(*options.device))
    scored = {"config": options.config, "spec": options.spec, "scored": options.scored}
    for model in options.models:
        inputs = {**scored, "seconds": options.equal_seconds, "steps": options.sampler_steps[model.name]}
        budget.run_step(f"compare-{model.name}", inputs, lambda model=model: compared(model))
    inputs = {**scored, "seconds": options.main_seconds, "steps": options.sampler_steps[MAIN.name]}
    budget.run_step("main", inputs, favoured)
    held = [path for model in options.models if (path := snapshot_file(budget.work, model)).is_file()]
    budget.run_step("page", {**inputs, "models": [path.name for path in held]}, lambda: page(budget, options, held))


def dataset(budget: "TimeBudget", options: CampaignOptions, format_name: str) -> Path:
    """The folder of datasets, in which that of `format_name` is built where it is missing.

    Raises:
        UserError: --data lacks it, or the build failed.
    """
    from data_specs.dataset import MANIFEST, folder_name
    from data_specs.spec import ClipCounts

    data = options.data or budget.work / "data"
    manifest = data / folder_name(format_name) / MANIFEST
    inputs = {"spec": options.spec, "clips": options.clips[format_name]}
    if options.data is not None and not manifest.is_file():
        raise UserError(f"--data must be a folder with {folder_name(format_name)}, got {data}")
    if options.data is not None or (manifest.is_file() and budget.recorded(f"data-{format_name}", inputs)):
        return data
    started = time.monotonic()
    corpus = budget.work / "corpus"
    command = ["-m", "pipeline", "dataset", "--spec", options.spec, "--midi", str(corpus), "--format", format_name]
    command += ["--clips", options.clips[format_name], "--accept-fewer", "--out", str(data)]
    if not corpus.is_dir():
        songs = -(-ClipCounts.parse(options.clips["encodec"]).train // CLIPS_PER_SONG)
        being_made = corpus.with_name("corpus.part")
        kinds = ["--train-only", "--with-source", "--out", str(being_made)]
        budget.python("corpus", ["-m", "bench.corpus", "tunes", str(songs), *kinds])
        os.replace(being_made, corpus)
    budget.python("data", command)
    splits = json.loads(manifest.read_bytes())["splits"]
    clips = sum(split["clips"] for split in splits.values())
    rate = clips / (time.monotonic() - started)
    budget.record(f"data-{format_name}", inputs, {"clips": clips, "clips_per_second": round(rate, 2)})
    print(f"{format_name}: {clips:,} clips, {rate:.1f} a second", flush=True)
    return data


def score(budget: "TimeBudget", options: CampaignOptions, model: "Model", guidance: float | None = None) -> "Facts":
    """Evaluate the newest snapshot of a model; returns its row of the tables."""
    from bench.node.models import snapshot_file

    data = dataset(budget, options, "audio")
    name = model.name if guidance is None else f"main-{guidance:g}"
    out = budget.work / "evaluation" / name
    command = ["-m", "training", "evaluate", "--run", str(snapshot_file(budget.work, model)), "--data", str(data)]
    command += ["--clips", str(options.scored), "--sampler-steps", str(options.sampler_steps[model.name])]
    command += ["--out", str(out), "--vggish", vggish_file(budget.work), *options.device]
    command += [] if guidance is None else ["--guidance", f"{guidance:g}"]
    budget.python("evaluate", command)
    (row,) = json.loads((out / "evaluation.json").read_bytes())["rows"]
    print(f"{name}: {options.scored} clips scored", flush=True)
    return dict(row)


def vggish_file(work: Path) -> str:
    """File of VGGish's weights; a missing path where there is none, so that nothing is downloaded."""
    from data_specs.io.download import cache_folder
    from training.evaluation.embedders.vggish import FILE, VARIABLE

    held = os.environ.get(VARIABLE) or str(cache_folder() / FILE)
    return held if Path(held).is_file() else str(work / FILE)


def page(budget: "TimeBudget", options: CampaignOptions, snapshots: Sequence[Path]) -> "Facts":
    """Write WORK/page.html: samples of all models on the shipped curves and on real clips."""
    data, out = dataset(budget, options, "audio"), budget.work / "page.html"
    command = ["-m", "training", "demo", "--run", ",".join(map(str, snapshots)), "--data", str(data), "--out", str(out)]
    budget.python("page", [*command, *options.device])
    return {"models": len(snapshots)}


if __name__ == "__main__":
    sys.exit(main())

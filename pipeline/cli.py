"""Command line of the pipeline. Each command imports what it needs when it runs, so --help is fast."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from data_specs.analysis import SHARPNESS, YIN
from data_specs.cli import Commands, add_threads, integer, number, run_commands, use_threads
from data_specs.errors import UserError
from data_specs.formats import FORMATS, check_format
from data_specs.spec import ClipCounts, Spec, load_spec, shipped_specs

if TYPE_CHECKING:
    from pipeline.cluster.workers import Workers

DEFAULT_OUT = "data"
DEFAULT_SPEC = "sample"
RECORDINGS_SPEC = "recordings"
DEFAULT_FORMAT = "encodec"


def main(argv: list[str] | None = None, prog: str = "python -m pipeline") -> int:
    """Run one command of the pipeline and return its exit status.

    Args:
        argv: the command and its options; None takes those of the process.
        prog: name of the program in usage texts and errors.
    """
    return run_commands(COMMANDS, argv, prog, "Build, check and export datasets of clips with control curves.")


def _add_dataset(parser: argparse.ArgumentParser) -> None:
    parser.description = "Build OUT/PVT-<format>. Finished shards are kept; rerun the same command to resume."
    add = parser.add_argument
    add(
        "--spec",
        metavar="NAME",
        help=f"{', '.join(shipped_specs())}, or a .toml file ({DEFAULT_SPEC})",
    )
    add("--format", default=DEFAULT_FORMAT, help=f"{', '.join(FORMATS)}, a comma list, or all ({DEFAULT_FORMAT})")
    add("--midi", metavar="PATH", help="folder (recursive) or tar.gz of MIDI files (the spec's)")
    add(
        "--audio", metavar="FOLDER", help=f"recordings, labelled by subfolder, instead of MIDI ({RECORDINGS_SPEC}.toml)"
    )
    add("--soundfont", metavar="PATH", help="an .sf2 file (the spec's)")
    add("--codec", metavar="NAME", help="phaseless, pvt, encodec_24khz, or a weights file (the spec's)")
    add("--clips", metavar="TRAIN:VALID", help="replaces the caps of all formats, for example 400:80")
    add("--seed", metavar="N", help="seed of plan and modulation (the spec's)")
    add(
        "--out",
        type=Path,
        metavar="FOLDER",
        help=f"parent folder ({DEFAULT_OUT}, or {DEFAULT_OUT}/<spec> of other specs)",
    )
    add("--index", type=Path, metavar="FOLDER", help="another OUT, whose index and plan are used")
    add("--workers", metavar="N", help="processes of one thread (all cores, as far as memory allows)")
    add("--scheduler", metavar="ADDRESS", help="tcp://host:port or tls://... of a running Dask scheduler")
    add("--tls-ca", type=Path, metavar="PEM", help="for tls://: certificate authority of the scheduler")
    add("--tls-cert", type=Path, metavar="PEM", help="for tls://: our certificate")
    add("--tls-key", type=Path, metavar="PEM", help="for tls://: its key")
    add("--cluster", metavar="NAME", help="slurm, or a .toml like pipeline/cluster/slurm/default.toml")
    add("--shards", metavar="I/N", help="build only shards k with k mod N = I; several at once share one OUT")
    add("--dry-run", action="store_true", help="stop after the plan")
    add("--force", action="store_true", help="move an existing folder aside (PVT-cqt.old-1)")
    add("--accept-fewer", action="store_true", help="accept fewer clips than asked for")
    add("--accept-device", action="store_true", help="resume on another kind of machine")
    parser.set_defaults(command=_dataset)


def _dataset(arguments: argparse.Namespace) -> int:
    spec = resolve_spec(arguments)
    out = arguments.out or default_folder(spec_name(arguments))
    formats = parse_formats(arguments.format)
    workers = choose_workers(arguments)
    if arguments.dry_run and (scripts := workers.scripts()):
        print(scripts)
        print("nothing was submitted; DRY_RUN=1 without CLUSTER= makes the plan")
        return 0
    from pipeline.build.build import build
    from pipeline.build.job import Request
    from pipeline.build.shards import ShardSubset

    return build(
        Request(
            spec=spec,
            formats=formats,
            out=out,
            index=(arguments.index or out) / "index",
            workers=workers,
            dry_run=arguments.dry_run,
            force=arguments.force,
            accept_fewer=arguments.accept_fewer,
            accept_device=arguments.accept_device,
            subset=None if arguments.shards is None else ShardSubset.parse(arguments.shards),
        )
    )


def choose_workers(arguments: argparse.Namespace) -> "Workers":
    """Return the workers chosen by WORKERS=, SCHEDULER= or CLUSTER=; without these, processes on this machine.

    Raises:
        UserError: two of the three are given, only some of the TLS options, these without SCHEDULER=, or a WORKERS=
            that is no integer >= 1; or the settings of the cluster cannot be read.
    """
    from pipeline.cluster.workers import LocalWorkers, RemoteWorkers, Tls

    chosen = [name for name in ("WORKERS", "SCHEDULER", "CLUSTER") if getattr(arguments, name.lower())]
    if len(chosen) > 1:
        raise UserError(f"{'= and '.join(chosen)}= exclude each other; give one of them")
    tls = [arguments.tls_ca, arguments.tls_cert, arguments.tls_key]
    if any(tls) and not (all(tls) and arguments.scheduler):
        raise UserError("TLS_CA=, TLS_CERT= and TLS_KEY= must be given together, with SCHEDULER=tls://host:port")
    if arguments.scheduler:
        return RemoteWorkers(arguments.scheduler, Tls(ca=tls[0], certificate=tls[1], key=tls[2]) if all(tls) else None)
    if arguments.cluster:
        from pipeline.cluster.slurm import SlurmWorkers, load_settings

        return SlurmWorkers(load_settings(arguments.cluster))
    return LocalWorkers(None if arguments.workers is None else integer("WORKERS", arguments.workers, least=1))


def resolve_spec(arguments: argparse.Namespace) -> Spec:
    """Return the spec that SPEC= names, with the values given by other options in place of its own.

    A spec of recordings that names no instruments gets the labels of its folder as instruments; this reads the folder.

    Raises:
        UserError: there is no such spec, an option is invalid, or AUDIO=, MIDI= or SOUNDFONT= is for the other kind of
            source.
    """
    spec = load_spec(spec_name(arguments))
    if (arguments.audio and spec.source.midi) or (spec.source.audio and (arguments.midi or arguments.soundfont)):
        raise UserError(
            f"AUDIO= needs a spec of recordings, MIDI= and SOUNDFONT= one of MIDI files; SPEC={spec.name} is of the "
            f"other kind"
        )
    given = (
        ("source", "audio", arguments.audio),
        ("source", "midi", arguments.midi),
        ("rendering", "soundfont", arguments.soundfont),
        ("codec", "name", arguments.codec),
    )
    for section, key, value in given:
        if value:
            spec = spec.model_copy(update={section: getattr(spec, section).model_copy(update={key: value})})
    if arguments.clips:
        spec = spec.with_clips(ClipCounts.parse(arguments.clips))
    if arguments.seed is not None:
        spec = spec.model_copy(update={"seed": integer("SEED", arguments.seed, least=0)})
    if spec.source.audio:
        from pipeline.recordings.catalog import with_labels

        return with_labels(spec)
    return spec


def spec_name(arguments: argparse.Namespace) -> str:
    """Return the spec named by SPEC=; by default `recordings` if AUDIO= is given, else `sample`."""
    return arguments.spec or (RECORDINGS_SPEC if arguments.audio else DEFAULT_SPEC)


def default_folder(spec: str) -> Path:
    """Return the default of OUT= for a spec: `data` for `sample`, `data/<name>` for any other.

    Args:
        spec: name of the spec or path of a .toml file; of a path, <name> is the file name without its suffix.
    """
    return Path(DEFAULT_OUT) if spec == DEFAULT_SPEC else Path(DEFAULT_OUT) / Path(spec).stem


def parse_formats(text: str) -> tuple[str, ...]:
    """Return the formats named in `text`, each once, in the order in which they are built.

    Args:
        text: `all`, or names separated by commas in any order.

    Raises:
        UserError: there is no such format.
    """
    names = tuple(FORMATS) if text == "all" else tuple(name.strip() for name in text.split(","))
    for name in names:
        check_format(name)
    return tuple(name for name in FORMATS if name in names)


def _add_data(parser: argparse.ArgumentParser) -> None:
    help_text = f"parent folder or one PVT-<format> ({DEFAULT_OUT})"
    parser.add_argument("--data", type=Path, default=Path(DEFAULT_OUT), help=help_text)


def _add_validate(parser: argparse.ArgumentParser) -> None:
    parser.description = "Check CRCs, digests, shapes, ranges, silence, counts, duplicate ids and leakage."
    _add_data(parser)
    parser.add_argument("--format", help="only these formats, as in `dataset` (all that exist)")
    add_threads(parser)
    parser.set_defaults(command=_validate)


def _validate(arguments: argparse.Namespace) -> int:
    from pipeline.tools.validate import validate

    use_threads(arguments)
    return validate(arguments.data, None if arguments.format is None else parse_formats(arguments.format))


def _add_report(parser: argparse.ArgumentParser) -> None:
    parser.description = "Write one self-contained HTML page with counts, histograms and sounds of a dataset."
    _add_data(parser)
    parser.add_argument("--out", type=Path, metavar="FILE", help="the page (report.html in the data folder)")
    add_threads(parser)
    parser.set_defaults(command=_report)


def _report(arguments: argparse.Namespace) -> int:
    from pipeline.tools.report import report

    use_threads(arguments)
    print(report(arguments.data, arguments.out))
    return 0


def _add_export(parser: argparse.ArgumentParser) -> None:
    parser.description = "Write a dataset as Parquet for Hugging Face datasets, or as WAV, CSV curves and MIDI."
    _add_data(parser)
    add = parser.add_argument
    add("--format", default="audio", help="one of the formats (audio)")
    add("--to", default="parquet", metavar="KIND", help="parquet or wav (parquet)")
    add("--out", type=Path, default=Path("export"), metavar="FOLDER", help="folder to write to (export)")
    parser.set_defaults(command=_export)


def _export(arguments: argparse.Namespace) -> int:
    from pipeline.tools.export_dataset import export_dataset

    check_format(arguments.format)
    return export_dataset(arguments.data, arguments.format, arguments.to, arguments.out)


def _add_controls(parser: argparse.ArgumentParser) -> None:
    parser.description = "Write the melody of a MIDI file, or curves measured from a recording, as a curve file."
    add = parser.add_argument
    add("file", type=Path, metavar="FILE", help="a MIDI file, or a wav, flac, ogg, mp3 or aiff file")
    add("--out", type=Path, metavar="FILE", help="the curve file (beside FILE, ending in .json)")
    add("--seconds", metavar="SECONDS", help="length (8; of a recording its own, at most 30)")
    add(
        "--start",
        default="0",
        metavar="SECONDS",
        help="start after the track's first note, or in the recording (0)",
    )
    add("--track", metavar="N", help="MIDI: index of the track (one named melody, else the one with most notes)")
    add("--instrument", metavar="NAME", help="name of the instrument (MIDI: that of the program; else none)")
    add(
        "--spec",
        default=DEFAULT_SPEC,
        metavar="NAME",
        help=f"recording: spec with the controls to write ({DEFAULT_SPEC})",
    )
    add(
        "--sharpness",
        default=str(SHARPNESS),
        metavar="S",
        help=f"recording: 0 for smooth curves to 1 for every frame ({SHARPNESS})",
    )
    add("--tracker", default=YIN, metavar="NAME", help=f"recording: pitch tracker, yin or swift-f0 ({YIN})")
    add("--notes", action="store_true", help="recording: pitch in steps of semitones instead of a line")
    parser.set_defaults(command=_controls)


def _controls(arguments: argparse.Namespace) -> int:
    from data_specs.io.audio import AUDIO_SUFFIXES

    start_s = number("START", arguments.start)
    if arguments.file.suffix.lower() in AUDIO_SUFFIXES:
        path, source = _audio_curves(arguments, start_s)
    else:
        from pipeline.tools.midi_curves import write_midi_curves

        choices = {
            "seconds": number("SECONDS", arguments.seconds or "8"),
            "start_s": start_s,
            "track": None if arguments.track is None else integer("TRACK", arguments.track, least=0),
            "instrument": arguments.instrument,
        }
        path, source = write_midi_curves(arguments.file, arguments.out, **choices)
    print(source)
    if arguments.out is None:
        print(path)
    return 0


def _audio_curves(arguments: argparse.Namespace, start_s: float) -> tuple[Path, str]:
    from pipeline.tools.audio_curves import write_audio_curves

    return write_audio_curves(
        arguments.file,
        arguments.out,
        load_spec(arguments.spec),
        seconds=None if arguments.seconds is None else number("SECONDS", arguments.seconds),
        start_s=start_s,
        instrument=arguments.instrument,
        sharpness=number("SHARPNESS", arguments.sharpness),
        notes=arguments.notes,
        tracker=arguments.tracker,
    )


def _add_lakh(parser: argparse.ArgumentParser) -> None:
    parser.description = "Download the Lakh MIDI dataset v0.1 (1.8 GB), resume a broken download, and check every file."
    choice = parser.add_mutually_exclusive_group()
    choice.add_argument("--full", action="store_true", help="all files, lmd_full.tar.gz (the default)")
    choice.add_argument("--matched", action="store_true", help="files matched to the Million Song Dataset (1.4 GB)")
    parser.add_argument("--out", type=Path, default=Path(), metavar="FOLDER", help="folder to write to (this one)")
    parser.add_argument("--url", help="address of a mirror of the same file (the published address)")
    parser.set_defaults(command=_lakh)


def _lakh(arguments: argparse.Namespace) -> int:
    from pipeline.tools.lakh import FULL, MATCHED, lakh

    return lakh(MATCHED if arguments.matched else FULL, arguments.out, arguments.url)


def _add_doctor(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(command=_doctor)


def _doctor(arguments: argparse.Namespace) -> int:
    from pipeline.tools.doctor import doctor

    return doctor()


COMMANDS: Commands = {
    "dataset": ("build a dataset", _add_dataset),
    "validate": ("verify checksums, shapes and values of a dataset", _add_validate),
    "report": ("write an HTML page about a dataset", _add_report),
    "export-dataset": ("write a dataset as Parquet or WAV files", _add_export),
    "controls": ("turn the melody of a MIDI file into a curve file", _add_controls),
    "lakh": ("download the Lakh MIDI dataset and check it", _add_lakh),
    "doctor": ("check the installation", _add_doctor),
}

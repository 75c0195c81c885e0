"""Console script `pvt`: one verb for each task, passed to the command line of the package that implements it."""

import sys
from importlib import import_module

from data_specs import __version__

# Verb: package and summary; the package is imported when its verb is used, so that --help is fast.
VERBS: dict[str, tuple[str, str]] = {
    "dataset": ("pipeline", "build a dataset from MIDI files or recordings"),
    "validate": ("pipeline", "verify checksums, shapes and values of a dataset"),
    "report": ("pipeline", "write an HTML page about a dataset: counts, histograms, sounds"),
    "export-dataset": ("pipeline", "write a dataset as Parquet or WAV files"),
    "controls": ("pipeline", "convert the melody of a MIDI file or a recording to a curve file"),
    "lakh": ("pipeline", "download and verify the Lakh MIDI dataset"),
    "doctor": ("pipeline", "check the installation"),
    "studio": ("pvt.studio", "draw curves and hear them in the browser"),
    "train": ("training", "train a diffusion model on a dataset"),
    "sample": ("training", "generate clips that follow curves"),
    "sweep": ("training", "measure the effect of sampling options on quality"),
    "evaluate": ("training", "measure FAD, control adherence, speed and size of models"),
    "judges": ("training", "fetch the weights of the external judges"),
    "demo": ("training", "write an HTML page that compares samples of several models"),
    "runs": ("training", "list runs with their state and losses"),
    "export": ("training", "write a model as one small file, or as ONNX graphs"),
    "card": ("training", "write a model card"),
    "toys": ("training", "run the toy experiments: swiss roll, digits, small codes"),
    "codec": ("training", "fit or train a codec"),
}
EXTRAS = {"pipeline": "pipeline", "training": "training", "pvt.studio": "training,studio"}  # that a package needs


def main(argv: list[str] | None = None) -> int:
    """Run `pvt VERB ...` and return the exit status.

    It is that of the verb; 0 after --help or --version; 2 without arguments, for an unknown verb, or if a Python
    package that the verb needs is not installed.

    Args:
        argv: the arguments after `pvt`; None for those of this process.
    """
    arguments = sys.argv[1:] if argv is None else argv
    if not arguments or arguments[0] in ("-h", "--help"):
        print(usage())
        return 0 if arguments else 2
    verb = arguments[0]
    if verb == "--version":
        print(__version__)
        return 0
    if verb not in VERBS:
        print(f"error: {verb!r} is not a verb of pvt; choose from {', '.join(VERBS)}", file=sys.stderr)
        return 2
    package = VERBS[verb][0]
    try:
        status: int = import_module(f"{package}.cli").main(arguments, prog="pvt")
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing in ("", "data_specs", "pipeline", "training", "pvt"):
            raise
        command = f"pip install 'pvt-audio[{EXTRAS[package]}]'"
        print(f"error: pvt {verb} needs the package {missing}; type: {command}", file=sys.stderr)
        return 2
    return status


def usage() -> str:
    """Return the text of `pvt --help`: the verbs, each with its summary."""
    lines = [f"  {verb:15}{summary}" for verb, (_, summary) in VERBS.items()]
    return "\n".join(["usage: pvt VERB [OPTIONS]", "", *lines, "", "`pvt VERB --help` lists the options of a verb."])

"""The commands `export` and `card`."""

import argparse
from pathlib import Path

from data_specs.errors import UserError
from data_specs.io.files import check_output_file, write_bytes
from training.options import positive_number

KINDS = {"safetensors": ".safetensors", "onnx": ".onnx", "resumable": ".pt"}


def add_export(parser: argparse.ArgumentParser) -> None:
    """Add the options of `python -m training export` to `parser`, and set its command."""
    parser.description = (
        "Write a model for other machines and programs: the newest averaged weights as float16 in one file for RUN=, "
        "ONNX graphs of the denoiser and of the codec's decoder, or a checkpoint that `train --resume` continues."
    )
    add = parser.add_argument
    add(
        "run",
        type=Path,
        nargs="?",
        help="few-steps, edm, a run folder, a checkpoint folder or a snapshot (few-steps)",
    )
    add("file", type=Path, nargs="?", help=argparse.SUPPRESS)  # `export RUN OUT` of earlier releases
    add("--to", metavar="KIND", default="safetensors", help="safetensors, onnx or resumable (safetensors)")
    add("--out", type=Path, metavar="FILE", help="file to write (model.safetensors, model.onnx or model.pt)")
    add("--ema-std", metavar="W", help="relative width of the average of weights to reconstruct (the EMA of the run)")
    parser.set_defaults(command=_export)


def _export(arguments: argparse.Namespace) -> int:
    from training.checkpoint import find_snapshot, write_half
    from training.model import load_model
    from training.runs import shipped_model

    if arguments.to not in KINDS:
        raise UserError(f"TO= must be one of {', '.join(KINDS)}; got {arguments.to!r:.40}")
    suffix = KINDS[arguments.to]
    out = check_output_file(arguments.out or arguments.file or Path(f"model{suffix}"))
    if out.suffix != suffix:
        raise UserError(f"OUT= must end in {suffix}, got {out}; write for example OUT=model{suffix}")
    snapshot = shipped_model() if arguments.run is None else find_snapshot(arguments.run)
    if out.exists() and out.samefile(snapshot):
        raise UserError(f"OUT= must be another file than the snapshot {snapshot}; choose another name")
    if arguments.ema_std is not None and arguments.to != "safetensors":
        raise UserError("EMA_STD= must be given with TO=safetensors; export the file that it writes to ONNX")
    if arguments.to == "resumable":
        from training.resumable import export_resumable

        files = [export_resumable(arguments.run or snapshot, out)]
    elif arguments.to == "onnx":
        from training.export.onnx import export_onnx

        files = export_onnx(load_model(snapshot), out)
    else:
        weights = None
        if arguments.ema_std is not None:
            from training.checkpoint import read_averages, read_snapshot
            from training.ema import reconstruct

            step = int(read_snapshot(snapshot)[1]["step"])
            std = positive_number("EMA_STD", arguments.ema_std, 0.289)
            weights = reconstruct(read_averages(arguments.run or snapshot, step), std)
        files = [write_half(snapshot, out, weights)]
    for file in files:
        print(f"{file}: {file.stat().st_size / 1e6:.1f} MB")
    return 0


def add_card(parser: argparse.ArgumentParser) -> None:
    """Add the options of `python -m training card` to `parser`, and set its command."""
    parser.description = "Write a model card: data, digests, controls, figures of evaluation.json, limits and use."
    add = parser.add_argument
    add("run", type=Path, nargs="?", help="few-steps, edm, a run folder or a snapshot (few-steps)")
    add("--evaluation", type=Path, metavar="FILE", help="an evaluation.json or its folder (RUN/evaluation, if any)")
    add("--out", type=Path, metavar="FILE", help="file to write (printed)")
    parser.set_defaults(command=_card)


def _card(arguments: argparse.Namespace) -> int:
    from training.checkpoint import find_snapshot
    from training.export.card import find_evaluation, model_card
    from training.model import load_model
    from training.runs import shipped_model

    run = arguments.run or shipped_model()
    out = None if arguments.out is None else check_output_file(arguments.out)
    snapshot = find_snapshot(run)
    text = model_card(load_model(snapshot), snapshot, find_evaluation(run, arguments.evaluation))
    if out is None:
        print(text)
    else:
        write_bytes(out, text.encode())
        print(f"wrote {out}")
    return 0

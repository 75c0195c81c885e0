"""Files that a call writes to OUT: at most eight, none over 16 MB, since a node may return no more.

summary.md                   the machine, rates, steps, a row for each model, what is missing
results.tar.gz               summary.json, evaluation.md, .csv, logs and configs of the models, output of the commands
page.html                    samples of all models on the same curves
listen.zip                   WAV, PNG and controls of each model's samples
<paradigm>-<format>.safetensors   a snapshot of each model, weights in float16
"""

import json
import tarfile
import zipfile
from collections.abc import Iterable, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

from bench.node.models import Model
from bench.node.results import tables
from bench.node.work import Facts
from data_specs.errors import UserError
from data_specs.io.files import atomic_write, write_bytes
from training.evaluation.tables import BUDGET, IDENTITY, Column, adherence_columns, embedders_of, fad_columns, markdown

MOST_BYTES = 16_000_000
LOG_BYTES = 200_000  # last part of a command's output
SUMMARY_BYTES = 2_000_000  # kept free in results.tar.gz for summary.json and evaluation.md


def write_artifacts(work: Path, out: Path, summary: Facts, models: Sequence[Model]) -> list[str]:
    """Write all artifacts that exist; returns one sentence for each that was left out."""
    left_out = [*snapshots(work, out, models), *_page(work, out), *listen(work / "samples", out / "listen.zip")]
    results = out / "results.tar.gz"
    kept, too_much = fitting(logs(work), MOST_BYTES - SUMMARY_BYTES)
    if too_much:
        left_out.append(f"{', '.join(too_much)} do not fit into {results.name}; they are in {work}")
    summary = {**summary, "left_out": left_out}
    write_bytes(out / "summary.md", summary_text(summary).encode())
    rows = [facts["row"] for facts in summary["evaluation"].values()]
    made = {"summary.json": json.dumps(summary, indent=1).encode()}
    if rows:
        made["evaluation.md"] = tables(rows).encode()
    pack(results, {**made, **kept})
    return left_out


def snapshots(work: Path, out: Path, models: Sequence[Model]) -> list[str]:
    """Write each model's newest snapshot in half precision; returns a sentence for each that is too large."""
    from training.checkpoint import find_snapshot, write_half

    left_out = []
    for model in models:
        run, file = work / "runs" / model.name, out / f"{model.name}.safetensors"
        if not any(run.glob("checkpoints/step-*")):
            continue
        try:
            size = write_half(find_snapshot(run), file).stat().st_size
        except UserError as error:
            left_out.append(f"{file.name}: {error}")
            continue
        if size > MOST_BYTES:
            file.unlink()
            left_out.append(f"{file.name} has {size:,} bytes, the limit is {MOST_BYTES:,}; it is in {run}")
    return left_out


def _page(work: Path, out: Path) -> list[str]:
    page = work / "page.html"
    if not page.is_file():
        return []
    if page.stat().st_size > MOST_BYTES:
        (out / page.name).unlink(missing_ok=True)
        return [f"page.html has {page.stat().st_size:,} bytes, the limit is {MOST_BYTES:,}; it is in {work}"]
    write_bytes(out / page.name, page.read_bytes())
    return []


def listen(samples: Path, out: Path) -> list[str]:
    """Write the samples of all models to one zip, audio first; returns a sentence if not all of them fit."""
    paths = sorted(
        (path for path in samples.rglob("*") if path.is_file()), key=lambda path: (path.suffix == ".png", path)
    )
    if not paths:
        return []
    # Sizes are before compression, so the file stays below the limit.
    kept, left_out = fitting({str(path.relative_to(samples)): path.read_bytes() for path in paths}, MOST_BYTES)
    with atomic_write(out) as raw, zipfile.ZipFile(raw, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in kept.items():
            archive.writestr(name, content)
    if not left_out:
        return []
    return [f"{len(left_out)} of {len(paths)} files of samples do not fit into {out.name}; they are in {samples}"]


def logs(work: Path) -> dict[str, bytes]:
    """Step records, configs, manifests, tables and logs by path, smallest first."""
    found = {}
    for pattern in ("marks/*.json", "logs/*.log", "runs/*/log.jsonl", "runs/*/config.json", "evaluation/*/*"):
        for path in work.glob(pattern):
            content = path.read_bytes()
            found[str(path.relative_to(work))] = content[-LOG_BYTES:] if path.suffix == ".log" else content
    for path in work.glob("data/PVT-*/dataset.json"):
        found[f"data/{path.parent.name}.json"] = path.read_bytes()
    return dict(sorted(found.items(), key=lambda item: (len(item[1]), item[0])))


def fitting(files: dict[str, bytes], most: int) -> tuple[dict[str, bytes], list[str]]:
    """Select files in order while their total is at most `most` bytes; also returns the names of the others."""
    kept: dict[str, bytes] = {}
    left_out = []
    for name, content in files.items():
        if len(content) <= most:
            kept[name] = content
            most -= len(content)
        else:
            left_out.append(name)
    return kept, left_out


def pack(out: Path, files: dict[str, bytes]) -> None:
    """Write `files` to a tar.gz."""
    with atomic_write(out) as raw, tarfile.open(fileobj=raw, mode="w:gz") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, BytesIO(content))


CLIPS = (
    Column("format", "format"),
    Column("clips", "clips", lambda x: f"{x:,}"),
    Column("built last", "built", lambda x: f"{x:,}"),
    Column("clips/s", "clips_per_second", lambda x: f"{x:.1f}"),
)
TRAINED = (
    Column("model", "model"),
    Column("training", "train_seconds", lambda x: f"{x:.1f} s"),
    Column("steps", "steps", lambda x: f"{x:,}"),
    Column("steps/s", "steps_per_second", lambda x: f"{x:.2f}"),
    Column("clips/s", "clips_per_second", lambda x: f"{x:.1f}"),
    Column("waiting for data", "wait_share", lambda x: f"{x:.1%}"),
    Column("peak memory", "peak_memory_mb", lambda x: f"{x:,.0f} MB"),
    Column("last loss", "last_loss", lambda x: f"{x:.4f}"),
)


def summary_text(summary: Facts) -> str:
    """summary.md."""
    parts = [f"# {summary['machine']}\n", f"{summary['state']}\n", _facts(summary)]
    if summary["clips"]:
        rows = [{"format": name, **facts} for name, facts in summary["clips"].items()]
        parts += ["## Clips\n", "Rendered, encoded and written, on all cores.\n", markdown(rows, CLIPS)]
    if summary["training"]:
        rows = [{"model": name, **facts} for name, facts in summary["training"].items()]
        parts += ["## Training\n", markdown(rows, TRAINED)]
    rows = [facts["row"] for facts in summary["evaluation"].values()]
    if rows:
        anchors = rows[0].get("anchors", {})
        real: list[dict[str, Any]] = [
            {"run": name, "adherence": anchors[key]}
            for key, name in (("ceiling", "real clips"), ("floor", "real clips, another's controls"))
            if key in anchors
        ]
        columns = (*IDENTITY, *BUDGET, *fad_columns(embedders_of(rows), ("train",)), *adherence_columns())
        parts += ["## Scores\n", markdown([*real, *rows], columns)]
        parts += ["Other tables are in results.tar.gz: evaluation.md.\n"]
    parts += _listed("Left out", summary["left_out"])
    return "\n".join(parts)


def _facts(summary: Facts) -> str:
    return "".join(f"- {key.replace('_', ' ')}: {summary[key]}\n" for key in ("versions", "config", "seconds_by_call"))


def _listed(heading: str, lines: Iterable[str]) -> list[str]:
    lines = list(lines)
    return [f"## {heading}\n", "".join(f"- {line}\n" for line in lines)] if lines else []

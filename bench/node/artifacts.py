"""Files that a call writes to OUT, from which a call on another machine resumes.

summary.md                   the machine, rates, the table at equal seconds, the main model, what is missing
results.tar.gz               records of finished steps, evaluations, logs and configs
page.html                    samples of the models on the same curves
<paradigm>-<format>.safetensors   newest snapshot of each model, weights in float16

There are at most 8 files of at most 16 MB each and about 64 MB together. If not all fit, the snapshot of the main model
has precedence.
"""

import shutil
import tarfile
from collections.abc import Iterable
from io import BytesIO
from pathlib import Path

from bench.node.models import MAIN, MODELS, snapshot_file
from bench.node.work import Facts, TimeBudget
from data_specs.errors import UserError
from data_specs.formats import FORMATS
from data_specs.io.files import atomic_write, write_bytes
from training.evaluation.tables import Column, adherence_columns, embedders_of, fad_columns, markdown, report

MOST_BYTES, TOTAL_BYTES = 16_000_000, 64_000_000
LOG_BYTES = 200_000  # last part of a command's output
RESULTS = "results.tar.gz"
KEPT = ("records/*.json", "evaluation/*/*", "runs/*/config.json", "runs/*/log.jsonl", "logs/*.log")


def write_artifacts(budget: TimeBudget, state: str, out: Path) -> None:
    """Write summary, results, page and snapshots to `out`; too large files are left out and listed in the summary.

    `state` is a sentence about the call, for the summary.
    """
    work = budget.work
    files = {"page.html": work / "page.html"}
    files |= {f"{model.name}.safetensors": snapshot_file(work, model) for model in MODELS}
    left, missing = TOTAL_BYTES, []
    packed, too_large = _packed(work)
    left -= len(packed)
    missing += [f"{name} of {RESULTS}" for name in too_large]
    write_bytes(out / RESULTS, packed)
    for name in sorted(files, key=lambda name: name != f"{MAIN.name}.safetensors"):
        (out / name).unlink(missing_ok=True)
        size = files[name].stat().st_size if files[name].is_file() else 0
        if size > min(MOST_BYTES, left):
            missing.append(f"{name} ({size:,} bytes)")
        elif size:
            shutil.copyfile(files[name], out / name)
            left -= size
    write_bytes(out / "summary.md", summary(budget, state, missing).encode())


def _packed(work: Path) -> tuple[bytes, list[str]]:
    """Return a tar.gz of the files KEPT of `work`, and the names of files that are left out since they are too large.

    Of a log, only the last LOG_BYTES are packed.
    """
    left, too_large, buffer = MOST_BYTES, [], BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for path in (path for pattern in KEPT for path in sorted(work.glob(pattern))):
            content = path.read_bytes()
            content = content[-LOG_BYTES:] if path.suffix == ".log" else content
            member = tarfile.TarInfo(str(path.relative_to(work)))
            member.size = len(content)
            if len(content) > left:  # before compression, so that the file is below the limit
                too_large.append(member.name)
                continue
            left -= len(content)
            archive.addfile(member, BytesIO(content))
    return buffer.getvalue(), too_large


def restore(budget: TimeBudget, folder: Path) -> None:
    """Restore records, evaluations and snapshots from `folder`, the output of an earlier call.

    Nothing is done if the folder WORK of `budget` has records. A snapshot is restored with a record of the progress of
    its model, to which further training is added.

    Raises:
        UserError: the folder has no results.
    """
    if (budget.work / "records").is_dir():
        return
    if not (folder / RESULTS).is_file():
        raise UserError(f"--state must be a folder that an earlier call wrote with {RESULTS}, got {folder}")
    with tarfile.open(folder / RESULTS) as archive:
        for member in archive.getmembers():
            if member.isfile() and member.name.startswith(("records/", "evaluation/")) and ".." not in member.name:
                content = archive.extractfile(member)
                assert content is not None
                write_bytes(budget.work / member.name, content.read())
    for model in MODELS:
        file = folder / f"{model.name}.safetensors"
        if file.is_file() and (found := budget.recorded(f"progress-{model.name}")):
            with atomic_write(snapshot_file(budget.work, model)) as target:
                target.write(file.read_bytes())
            budget.record(f"carried-{model.name}", {}, found)


DATA = (
    Column("format", "format"),
    Column("clips", "clips", "{:,}"),
    Column("clips/s, start-up included", "clips_per_second", "{:.1f}"),
)
TRAINED = (
    Column("model", "run"),
    Column("parameters", "parameters", lambda x: f"{x / 1e6:.2f} M"),
    Column("batch", "batch"),
    Column("precision", "precision"),
    Column("training", "train_seconds", "{:.1f} s"),
    Column("steps", "steps", "{:,}"),
    Column("steps/s", "steps_per_second", "{:.2f}"),
    Column("crops/s", "clips_per_second", "{:.1f}"),
    Column("GFLOP a step", "step_gflop", "{:,.0f}"),
    Column("utilisation", "utilisation", "{:.1%}"),
    Column("kernels a step, not compiled", "step_kernels", "{:,}"),
    Column("waiting for data", "wait_share", "{:.1%}"),
    Column("peak memory", "peak_memory_mb", "{:,.0f} MB"),
    Column("last loss", "last_loss", "{:.4f}"),
)
SAMPLED = (
    Column("model", "run"),
    Column("sampler steps", "sampler_steps"),
    Column("guidance", "samples.guidance"),
    Column("clips scored", "samples.clips"),
)


def summary(budget: TimeBudget, state: str, missing: Iterable[str] = ()) -> str:
    """Return the content of summary.md, made of the records of finished steps.

    Args:
        budget: has the records.
        state: sentence about the call.
        missing: files that were too large for the output.
    """
    machine = budget.recorded("machine")
    parts = [f"# {machine.get('machine', 'unknown machine')}\n", f"{state}\n"]
    if machine:
        rates = f"bf16 {machine['bf16_tflops']:.3g}, float32 {machine['float32_tflops']:.3g} TFLOP/s"
        copies = f"copies {machine['copy_gb_per_second']:.3g} GB/s"
        parts.append(f"{machine['versions']}; matrix products in {rates}; {copies}.\n")
    if built := [row for name in FORMATS if (row := budget.recorded(f"data-{name}"))]:
        parts += ["## Clips\n", markdown(built, DATA)]
    if compared := [row for model in MODELS if (row := budget.recorded(f"compare-{model.name}"))]:
        parts += ["## Models at equal seconds\n", markdown(compared, TRAINED), _scores(compared)]
    if rows := budget.recorded("main").get("rows"):
        parts += ["## The main model\n", markdown(rows[:1], TRAINED), _scores(rows), report(rows)]
    if lines := [f"- {name}\n" for name in missing]:
        parts += [f"## Too large for the output, kept in {budget.work}\n", "".join(lines)]
    return "\n".join(parts)


def _scores(rows: list[Facts]) -> str:
    anchors: Facts = rows[0].get("anchors", {})
    names = {"ceiling": "real clips", "floor": "real clips, another's controls"}
    real = [{"run": name, "adherence": anchors[key]} for key, name in names.items() if key in anchors]
    columns = (*SAMPLED, *fad_columns(embedders_of(rows), ("train",)), *adherence_columns())
    return markdown([*real, *rows], columns)

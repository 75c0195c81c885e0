"""Markdown and CSV tables of the rows of `evaluate.py`.

A row is nested dictionaries. A missing value is a dash in Markdown and empty in CSV.
"""

import csv
import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from data_specs.io.files import Json
from training.evaluation.adherence import lower_is_better, measure_names
from training.evaluation.judges.measures import BESIDE, JUDGE_MEASURES
from training.evaluation.paper_results import SETTING_41, SETTING_42, TABLE_41, TABLE_42

Row = Mapping[str, Any]
EQUAL = 0.1  # largest relative difference of budgets that count as equal
EMPTY = "–"


def value(row: Row, path: str) -> Any:
    """Return a nested value by its dotted path, as `value(row, "fad.vggish.train.value")`; None if a key is missing."""
    here: Any = row
    for key in path.split("."):
        if not isinstance(here, Mapping) or key not in here:
            return None
        here = here[key]
    return here


def _millions(x: Any) -> str:
    return f"{x / 1e6:.1f} M" if x >= 1e5 else f"{x:,}"


def _count(x: Any) -> str:
    return f"{x:,}".replace(",", " ")


def duration(seconds: float) -> str:
    """Format seconds in the units of the published tables: `75.7 h` from an hour up, else `1216.2 s`."""
    return f"{seconds / 3600:.1f} h" if seconds >= 3600 else f"{seconds:.1f} s"


def _time(x: Any) -> str:
    return duration(x["seconds"]) + (" (extrapolated)" if x.get("extrapolated") else "")


def _real(x: Any) -> str:
    return EMPTY if x["value"] is None else f"{x['value']:.2f} (N = {x['clips']})"


def _score(x: Any) -> str:
    if "missing" in x:
        return "no weights"
    return f"{x['value']:.2f}" + (" (!)" if x.get("warning") else "")


@dataclass(frozen=True)
class Column:
    """Column of a table: heading, dotted path of the value in a row, and format of the value.

    `show` is a string for str.format or a function that returns the text of the value.
    """

    heading: str
    path: str
    show: str | Callable[[Any], str] = "{}"


IDENTITY = (Column("run", "run"), Column("framework", "paradigm"), Column("data", "format"))
BUDGET = (
    Column("parameters", "parameters", _millions),
    Column("batch", "batch"),
    Column("training", "training_seconds", duration),
)
SPEED = (
    Column("inference 8 x 4 s", "inference.8x4", _time),
    Column("inference 64 x 8 s", "inference.64x8", _time),
)
DETAILS = (
    Column("representation", "label"),
    Column("steps", "steps", _count),
    Column("clips seen", "clips", _count),
    Column("device", "device"),
    Column("peak memory in training", "peak_memory_mb", "{:,.0f} MB"),
    Column("network evaluations", "samples.evaluations", _count),
    Column("clips generated", "samples.clips", _count),
    Column("guidance", "samples.guidance"),
    Column("unconditioned", "samples.free", lambda names: ", ".join(names) or "none"),
)


def fad_columns(embedders: Sequence[str], splits: Sequence[str] = ("train", "valid")) -> tuple[Column, ...]:
    """Return the FAD columns of each embedder.

    They are FAD against each of `splits`, FAD of real against other real training clips, and, against the first split,
    extrapolated FAD and FAD of real clips that were encoded and decoded by the format.
    """
    columns: list[Column] = []
    for name in embedders:
        columns += [Column(f"FAD {name} / {split}", f"fad.{name}.{split}", _score) for split in splits]
        columns.append(Column(f"real against real {name}", f"fad.{name}.real", _real))
        columns.append(Column(f"FAD∞ {name}", f"fad.{name}.{splits[0]}.infinity", "{0[value]:.2f} (R² {0[r2]:.2f})"))
        columns.append(Column(f"codec alone {name}", f"ceiling.fad.{name}.{splits[0]}", _score))
    return tuple(columns)


def adherence_columns(of: str = "adherence") -> tuple[Column, ...]:
    """Return a column for each measure of adherence; an arrow in the heading marks the better direction.

    `of` is the dotted path of the measures in a row.
    """
    lower = lower_is_better()
    arrow = {name: "↓" if name in lower else "↑" for name in measure_names()}
    return tuple(Column(f"{name.replace('_', ' ')} {arrow[name]}", f"{of}.{name}", "{:.3f}") for name in arrow)


def markdown(rows: Sequence[Row], columns: Sequence[Column]) -> str:
    """Return a Markdown table of the rows without the columns that are None or missing in every row."""
    used = [column for column in columns if any(value(row, column.path) is not None for row in rows)]
    return markdown_table([column.heading for column in used], ([_cell(row, one) for one in used] for row in rows))


def markdown_table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table with a line for each row of cells, which are written as they are."""
    lines = [headings, ["---"] * len(headings), *rows]
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)


def _cell(row: Row, column: Column) -> str:
    found = value(row, column.path)
    if found is None:
        return EMPTY
    shown = column.show.format(found) if isinstance(column.show, str) else column.show(found)
    return shown.replace("|", "\\|").replace("\n", " ")


def flat(row: Row, prefix: str = "") -> Json:
    """Return nested dictionaries as one, with keys joined by dots after `prefix`, without lists and tuples."""
    out: Json = {}
    for key, held in row.items():
        if isinstance(held, Mapping):
            out |= flat(held, f"{prefix}{key}.")
        elif not isinstance(held, list | tuple):
            out[prefix + key] = held
    return out


def csv_text(rows: Sequence[Row]) -> str:
    """Return the rows as CSV with a heading; it has a column for each key of `flat` in order of first appearance."""
    flattened = [flat(row) for row in rows]
    keys = list(dict.fromkeys(key for row in flattened for key in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, keys, lineterminator="\n")
    writer.writeheader()
    writer.writerows(flattened)
    return text.getvalue()


def beside_published(rows: Sequence[Row], published: Sequence[Row]) -> list[Row]:
    """Return each published row followed by those of `rows` that have the same paradigm and format."""
    out: list[Row] = []
    for theirs in published:
        out.append(theirs)
        out += [row for row in rows if (row["paradigm"], row["format"]) == (theirs["paradigm"], theirs["format"])]
    return out


def equal_group(rows: Sequence[Row], path: str, tolerance: float = EQUAL) -> list[Row]:
    """Return the largest group of rows whose values at `path` are nearly equal, in the order of `rows`.

    The largest value of a group is at most 1 + `tolerance` times its smallest. Rows whose value is missing or 0 are in
    no group; without any other row the group is empty.
    """
    known = sorted((float(value(row, path)), number) for number, row in enumerate(rows) if value(row, path))
    best: list[int] = []
    for start, (least, _) in enumerate(known):
        group = [number for held, number in known[start:] if held <= least * (1 + tolerance)]
        best = group if len(group) > len(best) else best
    return [rows[number] for number in sorted(best)]


def equal_budgets(rows: Sequence[Row], embedders: Sequence[str]) -> str:
    """Return as Markdown a table each of models of equal size, equal number of training clips and equal training time.

    Models are equal within 10 % (EQUAL). A sentence says so where no two are. `embedders` are those of the FAD columns.
    """
    columns = (
        *IDENTITY,
        *BUDGET,
        Column("clips seen", "clips", _count),
        *fad_columns(embedders, ("train",)),
        *adherence_columns(),
    )
    budgets = (("parameters", "parameters"), ("clips seen", "clips"), ("seconds of training", "training_seconds"))
    parts = []
    for title, path in budgets:
        group = equal_group(rows, path)
        parts.append(f"### Equal {title} (within {EQUAL:.0%})\n")
        if len(group) > 1:
            parts.append(markdown(group, columns))
        else:
            parts.append(f"No two of these models have equal {title}.\n")
    return "\n".join(parts)


def embedders_of(rows: Sequence[Row]) -> list[str]:
    """Return the names of the embedders that any row has, in order of first appearance."""
    return list(dict.fromkeys(name for row in rows for name in row.get("fad", {})))


def report(rows: Sequence[Row]) -> str:
    """Return the rows of an evaluation as one Markdown text with all tables."""
    names = embedders_of(rows)
    scored = fad_columns(names)
    anchors = [
        {"run": name, "adherence": measures}
        for key, name in (("ceiling", "real clips"), ("floor", "real clips, other controls"))
        if rows and (measures := value(rows[0], f"anchors.{key}"))
    ]
    ceilings = [
        {"run": f"real clips through {row['label']}", "adherence": row["ceiling"]["adherence"]}
        for row in _first_of_each(rows, "label")
        if value(row, "ceiling.adherence")
    ]
    published = (*IDENTITY, *BUDGET, *SPEED, *fad_columns(list(dict.fromkeys(["vggish", *names])), ("train",)))
    parts = [
        "# Evaluation\n",
        "## Runs\n",
        markdown(rows, (*IDENTITY, *DETAILS, *BUDGET, *SPEED)),
        "## Frechet audio distance\n",
        markdown(rows, (*IDENTITY, *scored)),
        _notes(rows),
        "## Control adherence\n",
        markdown([*anchors, *ceilings, *rows], (Column("run", "run"), *IDENTITY[1:], *adherence_columns())),
        *notes(rows),
        *_judged_parts(rows),
        "## Noise within held notes\n",
        _texture(rows),
        "## Copies of training clips\n",
        markdown(rows, (Column("run", "run"), *COPIES)),
        f"## Beside table 4.1 ({SETTING_41})\n",
        markdown(beside_published(rows, TABLE_41), published),
        f"## Beside table 4.2 ({SETTING_42})\n",
        markdown(beside_published(rows, TABLE_42), published),
        "## At equal budgets\n",
        equal_budgets(rows, names),
    ]
    return "\n".join(parts)


def notes(rows: Sequence[Row]) -> list[str]:
    """Return the notes in the rows on what was not measured, as paragraphs; a note of several rows occurs once."""
    return [f"{note}\n" for note in dict.fromkeys(note for row in rows for note in row.get("notes", ()))]


def _judged_parts(rows: Sequence[Row]) -> list[str]:
    """Return heading and table of the external judges; empty if no row has their measures.

    The table has the measures of the judges, ours of the same, and the `disagreement` of both.
    """
    if not any(found is not None for row in rows for found in row.get("judged", {}).values()):
        return []
    real = {
        "run": "real clips",
        "judged": rows[0]["judged_real"],
        "adherence": value(rows[0], "anchors.ceiling"),
    }
    columns = [Column("run", "run")]
    for name in JUDGE_MEASURES:
        columns.append(Column(name.replace("_", " "), f"judged.{name}", "{:.3f}"))
        if name in BESIDE:
            columns.append(Column(f"our {BESIDE[name].replace('_', ' ')}", f"adherence.{BESIDE[name]}", "{:.3f}"))
            columns.append(Column(f"{name.replace('_', ' ')}: disagreement", f"disagreement.{name}", "{:.3f}"))
    shown = [{**row, "disagreement": disagreement(row)} for row in rows]
    return ["## External judges\n", markdown([real, *shown], columns)]


def _texture(rows: Sequence[Row]) -> str:
    """Return a Markdown table of harmonic-to-between ratios (dB) and latent steps.

    It has rows of real clips that each representation encoded and decoded, then `rows`.
    """
    instruments = list(dict.fromkeys(name for row in rows for name in row.get("harmonic_to_between", {})))
    columns = [Column("run", "run")]
    columns += [Column(f"{name}, dB", f"harmonic_to_between.{name}", "{:.1f}") for name in instruments]
    columns.append(Column("latent steps, beside real", "latent_steps", "{:.2f}"))
    decoded = [
        {"run": f"real clips through {row['label']}", **row["ceiling"]}
        for row in _first_of_each(rows, "label")
        if value(row, "ceiling.harmonic_to_between")
    ]
    return markdown([*decoded, *rows], columns)


def disagreement(row: Row) -> dict[str, float]:
    """Return by how much each judge finds generated clips worse, compared to real clips, than our own measure does.

    For each measure of a judge in BESIDE, it is (real - generated) by the judge minus (real - generated) by our
    measure, with the sign changed if lower is better. It is positive if the judge is stricter. Measures of which a
    value is missing are left out.
    """
    found, lower = {}, lower_is_better()
    for theirs, ours in BESIDE.items():
        paths = f"judged_real.{theirs}", f"judged.{theirs}", f"anchors.ceiling.{ours}", f"adherence.{ours}"
        numbers = [value(row, path) for path in paths]
        if all(number is not None for number in numbers):
            losses = (numbers[0] - numbers[1]) - (numbers[2] - numbers[3])
            found[theirs] = -losses if ours in lower else losses
    return found


COPIES = (
    Column("nearer to train than to valid", "copies.nearer_to_train", "{:.3f}"),
    Column("the same of real clips", "copies.nearer_to_train_real", "{:.3f}"),
    Column("suspected copies", "copies.suspects", _count),
)


def _first_of_each(rows: Sequence[Row], key: str) -> list[Row]:
    return list({row[key]: row for row in reversed(rows)}.values())[::-1]


def _notes(rows: Sequence[Row]) -> str:
    """Return as paragraphs the warnings of FAD scores and the reasons for missing ones, each once."""
    notes = []
    for row in rows:
        for name, scores in row.get("fad", {}).items():
            if "missing" in scores:
                notes.append(f"{name}: {scores['missing']}")
            notes += [
                f"(!) {name} / {split}: {held['warning']}"
                for split, held in scores.items()
                if isinstance(held, Mapping) and held.get("warning")
            ]
    return "".join(f"{note}\n\n" for note in dict.fromkeys(notes))

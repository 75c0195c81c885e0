"""Format the rows of `evaluate.py` as Markdown and CSV. A missing value is an empty cell."""

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from data_specs.io.files import Json
from training.evaluation.adherence import lower_is_better, measure_names
from training.evaluation.judges.measures import BESIDE, JUDGE_MEASURES
from training.evaluation.paper_results import SETTING_41, SETTING_42, TABLE_41, TABLE_42

Row = Mapping[str, Any]
EQUAL = 0.1  # relative difference of budgets that count as equal
EMPTY = "–"


def value(row: Row, path: str) -> Any:
    """Return a nested value, as `value(row, "fad.vggish.train.value")`; None where any key is missing."""
    here: Any = row
    for key in path.split("."):
        if not isinstance(here, Mapping) or key not in here:
            return None
        here = here[key]
    return here


def _number(digits: int) -> Callable[[Any], str]:
    return lambda x: f"{x:.{digits}f}"


def _millions(x: Any) -> str:
    return f"{x / 1e6:.1f} M" if x >= 1e5 else f"{x:,}"


def _count(x: Any) -> str:
    return f"{x:,}".replace(",", " ")


def duration(seconds: float) -> str:
    """Format a duration in the units of the published tables: `75.7 h`, `1216.2 s`."""
    return f"{seconds / 3600:.1f} h" if seconds >= 3600 else f"{seconds:.1f} s"


def _time(x: Any) -> str:
    mark = " (extrapolated)" if x.get("extrapolated") else ""
    return duration(x["seconds"]) + mark


def _real(x: Any) -> str:
    return EMPTY if x["value"] is None else f"{x['value']:.2f} (N = {x['clips']})"


def _score(x: Any) -> str:
    if "missing" in x:
        return "no weights"
    return f"{x['value']:.2f}" + (" (!)" if x.get("warning") else "")


def _infinity(x: Any) -> str:
    return f"{x['value']:.2f} (R² {x['r2']:.2f})"


@dataclass(frozen=True)
class Column:
    """One column: heading, path of its value in a row, and format."""

    heading: str
    path: str
    show: Callable[[Any], str] = str


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
    Column("peak memory in training", "peak_memory_mb", lambda x: f"{x:,.0f} MB"),
    Column("network evaluations", "samples.evaluations", _count),
    Column("clips generated", "samples.clips", _count),
    Column("guidance", "samples.guidance"),
    Column("unconditioned", "samples.free", lambda names: ", ".join(names) or "none"),
)


def fad_columns(embedders: Sequence[str], splits: Sequence[str] = ("train", "valid")) -> tuple[Column, ...]:
    """Return columns of FAD against each split, extrapolated, and of the representation alone."""
    columns: list[Column] = []
    for name in embedders:
        columns += [Column(f"FAD {name} / {split}", f"fad.{name}.{split}", _score) for split in splits]
        columns.append(Column(f"real against real {name}", f"fad.{name}.real", _real))
        columns.append(Column(f"FAD∞ {name}", f"fad.{name}.{splits[0]}.infinity", _infinity))
        columns.append(Column(f"codec alone {name}", f"ceiling.fad.{name}.{splits[0]}", _score))
    return tuple(columns)


def adherence_columns(of: str = "adherence") -> tuple[Column, ...]:
    """Return one column for each measure; an arrow marks the better direction."""
    lower = lower_is_better()
    arrow = {name: "↓" if name in lower else "↑" for name in measure_names()}
    return tuple(Column(f"{name.replace('_', ' ')} {arrow[name]}", f"{of}.{name}", _number(3)) for name in arrow)


def markdown(rows: Sequence[Row], columns: Sequence[Column]) -> str:
    """Return a Markdown table without the columns that are empty in every row."""
    used = [column for column in columns if any(value(row, column.path) is not None for row in rows)]
    lines = [[column.heading for column in used], ["---"] * len(used)]
    lines += [[_cell(row, column) for column in used] for row in rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def _cell(row: Row, column: Column) -> str:
    found = value(row, column.path)
    return EMPTY if found is None else column.show(found).replace("|", "\\|").replace("\n", " ")


def flat(row: Row, prefix: str = "") -> Json:
    """Flatten nested dictionaries, keys joined by dots, without lists."""
    out: Json = {}
    for key, held in row.items():
        if isinstance(held, Mapping):
            out |= flat(held, f"{prefix}{key}.")
        elif not isinstance(held, list | tuple):
            out[prefix + key] = held
    return out


def csv_text(rows: Sequence[Row]) -> str:
    """Return all plain values of all rows, one column for each key in order of first appearance."""
    flattened = [flat(row) for row in rows]
    keys = list(dict.fromkeys(key for row in flattened for key in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, keys, lineterminator="\n")
    writer.writeheader()
    writer.writerows(flattened)
    return text.getvalue()


def beside_published(rows: Sequence[Row], published: Sequence[Row]) -> list[Row]:
    """Return each published row, followed by the models of the same framework and data."""
    out: list[Row] = []
    for theirs in published:
        out.append(theirs)
        out += [row for row in rows if (row["paradigm"], row["format"]) == (theirs["paradigm"], theirs["format"])]
    return out


def equal_group(rows: Sequence[Row], path: str, tolerance: float = EQUAL) -> list[Row]:
    """Return the largest set of rows whose values at `path` differ by at most `tolerance`, in the given order."""
    known = sorted((float(value(row, path)), number) for number, row in enumerate(rows) if value(row, path))
    best: list[int] = []
    for start, (least, _) in enumerate(known):
        group = [number for held, number in known[start:] if held <= least * (1 + tolerance)]
        best = group if len(group) > len(best) else best
    return [rows[number] for number in sorted(best)]


def equal_budgets(rows: Sequence[Row], embedders: Sequence[str]) -> str:
    """Return the tables of models of equal size, equal number of clips and equal time of training."""
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
    """Return the names of all embedders in the rows, in order of first appearance."""
    return list(dict.fromkeys(name for row in rows for name in row.get("fad", {})))


def report(rows: Sequence[Row]) -> str:
    """Return all tables as one Markdown text."""
    names = embedders_of(rows)
    scored = fad_columns(names)
    names_of_anchors = {"ceiling": "real clips", "floor": "real clips, other controls"}
    anchors = [
        {"run": name, "adherence": value(rows[0], f"anchors.{key}")}
        for key, name in names_of_anchors.items()
        if rows and value(rows[0], f"anchors.{key}")
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
    """Return what was not measured and why, a paragraph for each reason."""
    return [f"{note}\n" for note in dict.fromkeys(note for row in rows for note in row.get("notes", ()))]


def _judged_parts(rows: Sequence[Row]) -> list[str]:
    """Return the section of the external judges: their measures, ours beside them, and the largest disagreement.

    A disagreement is the difference of what two judges of one measure say a model lacks beside real clips.
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
        columns.append(Column(name.replace("_", " "), f"judged.{name}", _number(3)))
        if name in BESIDE:
            columns.append(Column(f"our {BESIDE[name].replace('_', ' ')}", f"adherence.{BESIDE[name]}", _number(3)))
            columns.append(Column(f"{name.replace('_', ' ')}: disagreement", f"disagreement.{name}", _number(3)))
    shown = [{**row, "disagreement": disagreement(row)} for row in rows]
    return ["## External judges\n", markdown([real, *shown], columns)]


def _texture(rows: Sequence[Row]) -> str:
    """Return the table of harmonic-to-between ratios and latent steps, real clips through the codec beside them."""
    instruments = list(dict.fromkeys(name for row in rows for name in row.get("harmonic_to_between", {})))
    columns = [Column("run", "run")]
    columns += [Column(f"{name}, dB", f"harmonic_to_between.{name}", _number(1)) for name in instruments]
    columns.append(Column("latent steps, beside real", "latent_steps", _number(2)))
    decoded = [
        {"run": f"real clips through {row['label']}", **row["ceiling"]}
        for row in _first_of_each(rows, "label")
        if value(row, "ceiling.harmonic_to_between")
    ]
    return markdown([*decoded, *rows], columns)


def disagreement(row: Row) -> dict[str, float]:
    """Return, for each measure of an external judge, its loss against real clips minus the loss by our measure."""
    found, lower = {}, lower_is_better()
    for theirs, ours in BESIDE.items():
        paths = f"judged_real.{theirs}", f"judged.{theirs}", f"anchors.ceiling.{ours}", f"adherence.{ours}"
        numbers = [value(row, path) for path in paths]
        if all(number is not None for number in numbers):
            losses = (numbers[0] - numbers[1]) - (numbers[2] - numbers[3])
            found[theirs] = -losses if ours in lower else losses
    return found


COPIES = (
    Column("nearer to train than to valid", "copies.nearer_to_train", _number(3)),
    Column("the same of real clips", "copies.nearer_to_train_real", _number(3)),
    Column("suspected copies", "copies.suspects", _count),
)


def _first_of_each(rows: Sequence[Row], key: str) -> list[Row]:
    return list({row[key]: row for row in reversed(rows)}.values())[::-1]


def _notes(rows: Sequence[Row]) -> str:
    """Return warnings and reasons for empty cells, each once."""
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

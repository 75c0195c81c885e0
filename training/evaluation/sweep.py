"""Effect of sampling options on quality: one option is varied, the others keep their defaults, on the same clips."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from data_specs.errors import UserError
from data_specs.io.files import Json, write_bytes, write_json
from data_specs.viz.figures import png, sweep_figure
from training.diffusion import Paradigm
from training.evaluation.adherence import lower_is_better
from training.evaluation.evaluate import generate, scores
from training.evaluation.evaluator import Evaluator
from training.evaluation.tables import EMPTY, markdown_table, notes
from training.model import TrainedModel
from training.sampling.sampling import SamplingConfig

STEPS, GUIDANCE = "steps", "guidance"  # options that are fields of SamplingConfig


@dataclass(frozen=True)
class Sweep:
    """An option of sampling and its values."""

    option: str
    values: tuple[float, ...]

    @classmethod
    def parse(cls, text: str) -> "Sweep":
        """Parse VARY=, for example `s_churn=0,10,40`.

        Raises:
            UserError: not an option with two or more different numbers.
        """
        option, equals, written = text.partition("=")
        try:
            values = tuple(float(part) for part in written.split(","))
        except ValueError:
            values = ()
        if not option or not equals or len(set(values)) < 2 or len(set(values)) < len(values):
            raise UserError(
                f"VARY= must be an option with two or more values such as s_churn=0,10,40, got {text!r:.60}"
            )
        return cls(option.strip().lower(), values)

    def settings(self, value: float, base: SamplingConfig) -> SamplingConfig:
        """Return `base` with the option set to `value`.

        Raises:
            UserError: steps that are not an integer, or a negative guidance.
        """
        if self.option == STEPS:
            if value != int(value):
                raise UserError(f"steps must be an integer, got {value:g}")
            return replace(base, steps=int(value))
        if self.option == GUIDANCE:
            if value < 0:
                raise UserError(f"guidance must be a weight >= 0, got {value:g}")
            return replace(base, guidance=value)
        return replace(base, options={**base.options, self.option: value})


def plan_sweep(paradigm: Paradigm, sweeps: Sequence[Sweep], base: SamplingConfig) -> list[tuple[Json, SamplingConfig]]:
    """Return for each value of each option its row (option, value, network evaluations) and its sampling config.

    Raises:
        UserError: the paradigm lacks an option, or a value is out of range.
    """
    settings = [(one.option, value, one.settings(value, base)) for one in sweeps for value in one.values]
    return [
        ({"option": option, "value": value, "evaluations": paradigm.evaluations(config.resolve(paradigm))}, config)
        for option, value, config in settings
    ]


def sweep(
    model: TrainedModel,
    evaluator: Evaluator,
    planned: Sequence[tuple[Json, SamplingConfig]],
    clips: int,
    save: Callable[[list[Json]], object] = lambda rows: None,
) -> list[Json]:
    """Return the rows of `plan_sweep` with FAD and adherence of `clips` samples, from the same controls and noise.

    `save` is called with all rows so far after each of them.
    """
    rows: list[Json] = []
    for row, config in planned:
        metrics = evaluator.measure(generate(model, evaluator, config, clips))
        rows.append({**row, **scores(metrics, evaluator)})
        save(rows)
    return rows


def flat(row: Json) -> dict[str, float]:
    """Return the numbers of a row in the table: FAD against train by each embedder, and the measures of adherence."""
    fads = {f"FAD {name}": split["train"].get("value") for name, split in row["fad"].items()}
    found = {**fads, **row["adherence"]}
    return {name: float(value) for name, value in found.items() if isinstance(value, (int, float))}


def markdown(rows: Sequence[Json], clips: int) -> str:
    """Return the rows as Markdown, with a table for each option."""
    parts = [f"# Sampling options\n\nEach value is measured on the same {clips} clips, from the same noise.\n"]
    for option in dict.fromkeys(row["option"] for row in rows):
        mine = [row for row in rows if row["option"] == option]
        names = list(flat(mine[0]))
        cells = (
            [f"{row['value']:g}", str(row["evaluations"]), *(_cell(flat(row).get(name)) for name in names)]
            for row in mine
        )
        parts += [f"## {option}\n", markdown_table([option, "evaluations", *names], cells)]
    return "\n".join([*parts, *notes(rows)]) + "\n"


def write_sweep(rows: Sequence[Json], out: Path, clips: int) -> str:
    """Write sweep.json, sweep.md and a figure for each option into `out`; returns the Markdown."""
    text = markdown(rows, clips)
    write_json(out / "sweep.json", list(rows))
    write_bytes(out / "sweep.md", text.encode())
    for option in dict.fromkeys(row["option"] for row in rows):
        mine = sorted((row for row in rows if row["option"] == option), key=lambda row: float(row["value"]))
        shown = [flat(row) for row in mine]
        measures = {name: [one.get(name, float("nan")) for one in shown] for name in shown[0]}
        lower = [name for name in measures if name.startswith("FAD") or name in lower_is_better()]
        better = {name: f"{'lower' if name in lower else 'higher'} is better" for name in measures}
        figure = sweep_figure([row["value"] for row in mine], measures, option, better)
        write_bytes(out / f"sweep-{option}.png", png(figure))
    return text


def _cell(value: float | None) -> str:
    return EMPTY if value is None else f"{value:.3f}"

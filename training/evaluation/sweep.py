"""Effect of sampling options on quality.

One option at a time takes several values, while the others keep those of a base config. Samples for all values follow
the controls of the same clips and start from the same noise.
"""

import math
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
DEFAULT_SWEEPS = ("guidance=1,1.5,2,3",)  # which all paradigms have


@dataclass(frozen=True)
class Sweep:
    """A sampling option and the finite values to measure it at; `option` is its name in lower case."""

    option: str
    values: tuple[float, ...]

    @classmethod
    def parse(cls, text: str) -> "Sweep":
        """Parse the text of VARY=, for example `s_churn=0,10,40`; the name of the option becomes lower case.

        Raises:
            UserError: the text is not a name, `=` and two or more different numbers, or a number is inf or nan. Whether
                the option exists is not checked here.
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
        if not all(math.isfinite(value) for value in values):
            raise UserError(f"the values of VARY= must be finite, got {text!r:.60}")
        return cls(option.strip().lower(), values)

    def settings(self, value: float, base: SamplingConfig) -> SamplingConfig:
        """Return a copy of `base` with the option set to `value`.

        The options `steps` and `guidance` set the fields of that name. Any other option is put into `options`
        unchecked.

        Raises:
            UserError: `value` is not an integer for `steps`, or is negative for `guidance`.
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
    """Return for each value of each option, in order, the start of its row and its sampling config.

    A row has `option`, `value` and `evaluations`, the network evaluations of one clip without guidance.

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
    """Sample and measure `clips` clips for each planned value; return the rows with the results added.

    The added entries are those of `scores`: FAD, adherence and others. All values get the same controls and noise.

    Args:
        model: the model to sample from.
        evaluator: valid clips whose controls the samples follow, and references of the measures.
        planned: rows and sampling configs, as `plan_sweep` returns them.
        clips: number of samples for each value.
        save: called after each value with the list of all rows so far.

    Raises:
        UserError: a sample is not finite.
    """
    rows: list[Json] = []
    for row, config in planned:
        metrics = evaluator.measure(generate(model, evaluator, config, clips))
        rows.append({**row, **scores(metrics, evaluator)})
        save(rows)
    return rows


def flat(row: Json) -> dict[str, float]:
    """Return the numbers of a row by column name; those that are missing or None are left out.

    They are the FAD against train clips by each embedder, as `FAD <embedder>`, then the measures of adherence.
    """
    fads = {f"FAD {name}": split["train"].get("value") for name, split in row["fad"].items()}
    found = {**fads, **row["adherence"]}
    return {name: float(value) for name, value in found.items() if isinstance(value, (int, float))}


def markdown(rows: Sequence[Json], clips: int) -> str:
    """Return the rows as Markdown, with a table for each option; `clips` is the number of samples that the text states.

    The columns of a table are the numbers that the first row of its option has. A number with None is a dash.
    """
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
    """Write sweep.json, sweep.md and sweep-<option>.png for each option to the folder `out`; return the Markdown.

    `clips` is the number of samples for each value, which the Markdown states. Existing files are replaced.
    """
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

"""Model cards: Markdown with the front matter of Hugging Face."""

import json
from collections.abc import Sequence
from pathlib import Path

from data_specs.errors import UserError
from data_specs.io.files import Json, file_sha256
from training.evaluation import tables
from training.model import TrainedModel
from training.networks import parameter_count

EVALUATION = "evaluation.json"  # written by `make evaluate`
LIMITS = """## Limits

The model generates one note at a time, of {instruments}, as rendered in its dataset. Curves
unlike those of its training data are followed less closely. Controls it does not list have no effect.

## Use

```python
import pvt

model = pvt.load_model("FILE.safetensors")
audio = model.sample("swell", seconds=8, n=1)  # float32 [1, 1, samples]
```

`pvt sample --run FILE.safetensors --controls swell` writes WAV files; `pvt studio --run FILE.safetensors`
opens the page on which curves are drawn.
"""


def model_card(model: TrainedModel, snapshot: Path, evaluation: Path | None) -> str:
    """Return the card of a model as Markdown: data, digests, controls, results, limits and use.

    Args:
        model: the loaded model.
        snapshot: its file, whose name, size and SHA-256 are in the card.
        evaluation: path of an evaluation.json; None for a card without results.

    Raises:
        UserError: `evaluation` cannot be read or was not written by `make evaluate`, or the present codec is not the
            one that made the training data.
    """
    data, config = model.data, model.config
    title = f"{config.paradigm} on {data.label}, config {config.name}"
    licence = model.representation.licence
    free = licence in ("", "MIT")
    front = [
        "---",
        f"license: {'mit' if free else 'other'}",
        "library_name: pvt-audio",
        "tags: [audio-generation, music, diffusion, control-curves]",
        f"pretty_name: {json.dumps(title)}",
        "---",
    ]
    rows = [
        ("file", f"`{snapshot.name}`, {snapshot.stat().st_size / 1e6:.1f} MB"),
        ("sha256", f"`{file_sha256(snapshot)}`"),
        ("paradigm", config.paradigm),
        ("network", f"{config.network.get('kind')}, {parameter_count(model.network) / 1e6:.2f} M parameters"),
        ("format", f"{data.label}, {data.sample_rate} Hz, one frame every {data.hop} samples"),
        ("controls", ", ".join(f"{name} ({count})" for name, count in data.layout.rows)),
        ("instruments", ", ".join(data.instruments)),
        ("training", _training(model)),
        ("sampling", _sampling(model)),
        ("train split", f"`{data.digest}`"),
        ("plan", f"`{data.plan_digest}`"),
        ("codec", f"{data.codec}, SHA-256 `{data.codec_digest}`"),
        ("licence", "MIT" if free else f"weights of the codec: {licence}"),
    ]
    table = ["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows)]
    limits = LIMITS.format(instruments=", ".join(data.instruments))
    return "\n".join([*front, "", f"# {title}", "", *table, "", *_figures(evaluation), limits])


def find_evaluation(run: Path, given: Path | None) -> Path | None:
    """Return the path of an evaluation.json: `given` or the one in it, else RUN/evaluation/evaluation.json, else None.

    Args:
        run: folder of the run.
        given: an evaluation.json or a folder that has one; None to look in the run folder.

    Raises:
        UserError: there is no file at `given`.
    """
    if given is not None:
        path = given / EVALUATION if given.is_dir() else given
        if not path.is_file():
            raise UserError(f"EVALUATION= must be an evaluation.json or its folder, got {given}; run make evaluate")
        return path
    path = run / "evaluation" / EVALUATION
    return path if path.is_file() else None


def _sampling(model: TrainedModel) -> str:
    evaluations = f"{model.paradigm.evaluations()} network evaluations"
    if model.paradigm.guidance_range is None:
        return f"{evaluations} without those of guidance"
    low, high = model.paradigm.guidance_range
    return f"{evaluations}, one weight of guidance from {low:g} to {high:g}"


def _training(model: TrainedModel) -> str:
    training = model.config.training
    crop = "whole clips" if training.seconds is None else f"crops of {training.seconds:g} s"
    hours = tables.duration(model.train_seconds)
    return f"{model.step} steps of {training.batch} {crop}, {hours}, precision {training.precision}"


def _figures(evaluation: Path | None) -> list[str]:
    if evaluation is None:
        return ["## Figures", "", "None yet; `make evaluate` writes them.", ""]
    try:
        rows: Sequence[Json] = json.loads(evaluation.read_bytes())["rows"]
        return ["## Figures", "", tables.report(rows).strip(), ""]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{evaluation} must be written by make evaluate ({error}); run it again") from None

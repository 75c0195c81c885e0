"""`make demo`: one page that lets several models be heard side by side on the same controls, beside the real clip."""

from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from data_specs.errors import UserError
from data_specs.io.files import write_bytes
from data_specs.viz.page import Markup, document, section, table
from data_specs.viz.page.tracks import Track, card
from training.model import TrainedModel
from training.networks import parameter_count
from training.sampling.curve_sources import ControlSet
from training.sampling.outputs import curve_arrays, fitted, real_audio, settings_text
from training.sampling.sampling import SamplingConfig, control_rows, sample_controls, sample_count


def demo(
    runs: dict[str, TrainedModel],
    sets: Sequence[ControlSet],
    out: Path,
    *,
    seconds: float | None,
    settings: dict[str, SamplingConfig],
) -> Path:
    """Write the page; returns its path.

    Args:
        runs: models by the name they have on the page.
        sets: what all of them follow.
        out: the HTML file.
        seconds: length of each sample; None for that of the clips in training.
        settings: how to sample, by the name of the model.

    Raises:
        UserError: controls that do not fit a model, or models of clips that differ in length.
    """
    lengths = {name: sample_count(run, seconds) for name, run in runs.items()}
    if len(set(lengths.values())) > 1:
        raise UserError("the runs make clips of different lengths; give SECONDS that suit all of them")
    samples = next(iter(lengths.values()))
    sounds = {name: _sampled(run, sets, samples, settings[name]) for name, run in runs.items()}
    page = document(
        "Sounds that follow curves",
        "Each model was given the curves of velocity, pitch class and instrument that stand below its picture. "
        "Where a curve says free, the model was told nothing.",
        [
            section("Models", "", [_models(runs, settings)]),
            section(
                "Listen",
                "A click on a picture plays from there; starting a second sound of a row goes on where the first "
                "one was.",
                [_row(one, number, runs, sounds, samples) for number, one in enumerate(sets)],
            ),
        ],
    )
    write_bytes(out, page.encode())
    return out


def _sampled(run: TrainedModel, sets: Sequence[ControlSet], samples: int, settings: SamplingConfig) -> Tensor:
    controls = control_rows(run, [fitted(one, samples) for one in sets], samples)
    return sample_controls(run, controls, samples, settings=settings, progress=True)


def _models(runs: dict[str, TrainedModel], settings: dict[str, SamplingConfig]) -> Markup:
    head = ("model", "paradigm", "data", "parameters", "steps", "clips seen", "sampling")
    rows = [
        (
            name,
            run.config.paradigm,
            run.data.label,
            f"{parameter_count(run.network) / 1e6:.2f} M",
            f"{run.step:,}",
            f"{run.step * run.config.training.batch:,}",
            settings_text(run, settings[name]),
        )
        for name, run in runs.items()
    ]
    return table(head, rows, numbers=(3, 4, 5))


def _row(
    one: ControlSet, number: int, runs: dict[str, TrainedModel], sounds: dict[str, Tensor], samples: int
) -> Markup:
    first = next(iter(runs.values()))
    arrays = curve_arrays(first, fitted(one, samples), samples)
    tracks = [Track(name, sounds[name][number, 0].numpy(), run.data.label) for name, run in runs.items()]
    if (real := real_audio(one, samples)) is not None:
        tracks.insert(0, Track("real", real.numpy(), one.real_label))
    # promise: escaped-4
    return card(one.name, [], tracks, arrays, first.data.hop, first.data.instruments)

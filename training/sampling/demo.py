"""Page of `make demo`: samples of several models with the same controls, beside the real clip."""

from collections.abc import Sequence
from pathlib import Path

from data_specs.errors import UserError
from data_specs.io.files import write_bytes
from data_specs.viz.page import Markup, document, section, table
from data_specs.viz.page.tracks import Sound, card
from training.model import TrainedModel
from training.networks import parameter_count
from training.sampling.curve_sources import ControlSet
from training.sampling.outputs import describe, fit_curves, real_audio
from training.sampling.sampling import SamplingConfig

Models = dict[str, tuple[TrainedModel, SamplingConfig]]  # by the name on the page


def write_demo(models: Models, sets: Sequence[ControlSet], out: Path, *, seconds: float | None) -> Path:
    """Sample one clip per model and set of controls, write an HTML page of all to `out`, and return `out`.

    Args:
        models: models with their sampling configs, by name on the page; at least one.
        sets: sets of controls that all models follow.
        out: HTML file, which is overwritten.
        seconds: length of each sample, rounded up to a frame; None for that of the training clips.

    Raises:
        UserError: controls that do not fit a model, or models whose clips differ in length.
    """
    lengths = {model.sample_count(seconds) for model, _ in models.values()}
    if len(lengths) > 1:
        raise UserError("RUN= must name models with clips of the same length; else give SECONDS=")
    (samples,) = lengths
    curves = [fit_curves(one, samples) for one in sets]
    sounds = {
        name: model.sample_controls(model.stack_curves(curves, samples), samples, config, progress=True)
        for name, (model, config) in models.items()
    }
    first = next(iter(models.values()))[0]
    cards = []
    for number, (one, drawn) in enumerate(zip(sets, curves, strict=True)):
        tracks = [Sound(name, sounds[name][number, 0].numpy(), model.data.label) for name, (model, _) in models.items()]
        if (real := real_audio(one, samples)) is not None:
            tracks.insert(0, Sound("real", real.numpy(), one.real_label))
        arrays = first.curve_arrays(drawn, samples)
        # promise: escaped-4
        cards.append(card(one.name, [], tracks, arrays, first.data.hop, first.data.instruments))
    page = document(
        "Sounds that follow curves",
        "Each model follows the curves below its picture. Where a curve is marked free, the feature is unconditioned.",
        [
            section("Models", "", [_table(models)]),
            section("Samples", "Click a picture to play from there; another sound continues at the same time.", cards),
        ],
    )
    write_bytes(out, page.encode())
    return out


def _table(models: Models) -> Markup:
    head = ("model", "paradigm", "data", "parameters", "steps", "clips seen", "sampling")
    rows = [
        (
            name,
            model.config.paradigm,
            model.data.label,
            f"{parameter_count(model.network) / 1e6:.2f} M",
            f"{model.step:,}",
            f"{model.step * model.config.training.batch:,}",
            describe(model, config),
        )
        for name, (model, config) in models.items()
    ]
    return table(head, rows, numbers=(3, 4, 5))

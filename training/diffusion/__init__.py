"""Diffusion paradigms by name. A paradigm is one file and one line in `PARADIGMS`."""

from data_specs.io.files import Json
from data_specs.registry import lookup
from data_specs.strict import parse_model
from training.conditioning import ControlLayout
from training.diffusion.base import LossModule, Paradigm
from training.diffusion.consistency import Consistency
from training.diffusion.ddpm import DDPM
from training.diffusion.discdpm import DiscDPM
from training.diffusion.edm import EDM
from training.diffusion.noise import BatchNoise, CounterNoise, Noise, PerClipNoise

__all__ = [
    "PARADIGMS",
    "BatchNoise",
    "CounterNoise",
    "LossModule",
    "Noise",
    "Paradigm",
    "PerClipNoise",
    "build_paradigm",
]

PARADIGMS: dict[str, type[Paradigm]] = {"ddpm": DDPM, "edm": EDM, "discdpm": DiscDPM, "consistency": Consistency}


def build_paradigm(name: str, table: Json, layout: ControlLayout, *, classes: int | None = None) -> Paradigm:
    """Build the paradigm `name` from its table `[diffusion.<name>]`.

    Args:
        name: a key of `PARADIGMS`.
        table: keys of the config of the paradigm; a key that is left out has the default of the config.
        layout: order of the controls in stacked tensors.
        classes: number of classes of a code; None for continuous data. Paradigms over continuous data ignore it.

    Raises:
        UserError: an unknown paradigm or key, a value of the wrong type or out of range, a paradigm over codes without
            `classes`, or an absorbing transition with a schedule that does not end in 0.
    """
    paradigm: type[Paradigm] = lookup(PARADIGMS, name, "PARADIGM=")
    return paradigm(parse_model(paradigm.Config, table, f"diffusion.{name}"), layout, classes)

"""Requirements of a node, checked before anything starts, since such a node cannot install packages."""

import importlib.util
from collections.abc import Iterable

from data_specs.errors import UserError

# import name -> name of the package, where they differ
TRAINING = {
    "google_crc32c": "google-crc32c",
    "librosa": "",
    "matplotlib": "",
    "nnAudio": "",
    "pydantic": "",
    "safetensors": "",
    "scipy": "",
    "soundfile": "",
    "tensorboard": "",
    "torch": "",
    "tqdm": "",
}
RENDERING = {
    "dask": "",
    "distributed": "",
    "fluidsynth": "pyfluidsynth",
    "mido": "",
    "pretty_midi": "",
    "psutil": "",
    "pyarrow": "",
    "symusic": "",
}


def missing(modules: dict[str, str]) -> list[str]:
    """Packages that are not installed."""
    return [package or module for module, package in modules.items() if importlib.util.find_spec(module) is None]


def check(render: bool) -> None:
    """Refuse to begin without what training needs, and with `render` what the pipeline requirements.

    Raises:
        UserError: names every missing package and the remedy.
    """
    lacking = missing(TRAINING)
    for_rendering = missing(RENDERING) if render else []
    if lacking:
        raise UserError(f"{_listed(lacking + for_rendering)} missing here; {ADVICE}")
    if for_rendering:
        raise UserError(f"{_listed(for_rendering)} missing here, and rendering needs that; {ADVICE}, or {READY}")
    if render:
        from pipeline.render.fluidsynth import library_version

        try:
            library_version()
        except UserError as error:
            raise UserError(f"{error}; or {READY}") from error


ADVICE = (
    "pip install them, or on a node without a package index bring the wheels along, unpack them into a folder and name "
    "it in PYTHONPATH"
)
READY = "give ready datasets with --data FOLDER, the folder that holds PVT-audio, PVT-cqt, PVT-encodec and PVT-disc"


def _listed(names: Iterable[str]) -> str:
    *rest, last = names
    return f"{', '.join(rest)} and {last} are" if rest else f"{last} is"

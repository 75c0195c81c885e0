"""Public API of the project: datasets, trained models, curves. Names are imported when they are used.

clips = pvt.Dataset("data/PVT-encodec")
audio = pvt.load_model("runs/edm-encodec-tiny").sample("curves.json", seconds=8, n=4)
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from data_specs.controls.curve_files import read_curves
    from data_specs.controls.curves import Curve, Curves
    from data_specs.dataset import load_manifest
    from data_specs.errors import UserError
    from data_specs.spec import Spec, load_spec
    from data_specs.tf_data import tf_dataset
    from training.data.dataset import Dataset
    from training.model import TrainedModel, load_model
    from training.sampling.curve_sources import shipped_curves

__all__ = [
    "Curve",
    "Curves",
    "Dataset",
    "Spec",
    "TrainedModel",
    "UserError",
    "load_manifest",
    "load_model",
    "load_spec",
    "read_curves",
    "shipped_curves",
    "tf_dataset",
]

_HOMES = {
    "Curve": "data_specs.controls.curves",
    "Curves": "data_specs.controls.curves",
    "Dataset": "training.data.dataset",
    "Spec": "data_specs.spec",
    "TrainedModel": "training.model",
    "UserError": "data_specs.errors",
    "load_manifest": "data_specs.dataset",
    "load_model": "training.model",
    "load_spec": "data_specs.spec",
    "read_curves": "data_specs.controls.curve_files",
    "shipped_curves": "training.sampling.curve_sources",
    "tf_dataset": "data_specs.tf_data",
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return import_module("data_specs").__version__
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)

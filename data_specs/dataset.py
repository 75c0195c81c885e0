"""Files beside the shards: `shapes.txt`, the shapes of a record, and `dataset.json`, the manifest.

`dataset.json` appears last, when everything else is in place; a folder without it is not a dataset. Nothing here
opens a shard.
"""

import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from data_specs.controls import CONTROLS
from data_specs.errors import UserError
from data_specs.records import LARGEST_RECORD, REBUILD, RecordLayout
from data_specs.spec import PUBLISHED_CONTROLS, SPLITS, Spec, StrictModel, parse_model

FORMAT_VERSION = 1
MANIFEST = "dataset.json"
SHAPES = "shapes.txt"
CLIPS_TABLE = "clips.parquet"
ID_BYTES = 16  # hex digits of a clip's id, stored as the feature `id`, which shapes.txt leaves out
DTYPES = ("float32", "float16", "int16")
_DIM = re.compile(r"[1-9][0-9]{0,9}", re.ASCII)


@dataclass(frozen=True)
class Feature:
    """One array of a record: little-endian, C order."""

    name: str
    dtype: str
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        """Bytes of the array."""
        return math.prod(self.shape) * np.dtype(self.dtype).itemsize

    @property
    def stored_dtype(self) -> np.dtype:
        """The dtype with its byte order."""
        return np.dtype(self.dtype).newbyteorder("<")

    def __str__(self) -> str:
        return " ".join((self.name, self.dtype, *map(str, self.shape)))


def clip_features(
    shape: tuple[int, ...],
    dtype: str,
    frames: int,
    instruments: int,
    controls: Sequence[str] = PUBLISHED_CONTROLS,
) -> tuple[Feature, ...]:
    """The features of one clip: `data` of a representation's `shape`, and the controls at its `frames`."""
    return (
        Feature("data", dtype, shape),
        *(Feature(name, "float32", CONTROLS[name].shape(frames, instruments)) for name in CONTROLS if name in controls),
    )


def layout(features: tuple[Feature, ...]) -> RecordLayout:
    """How records with these features and an id lie in a shard."""
    return RecordLayout.of({**{feature.name: feature.size for feature in features}, "id": ID_BYTES})


def parse_shapes(text: str, where: str, controls: Sequence[str] = PUBLISHED_CONTROLS) -> tuple[Feature, ...]:
    """The features that a shapes.txt describes.

    Raises:
        UserError: a line that is not `name dtype dim dim ...`.
    """
    features = []
    for number, line in enumerate(text.splitlines(), start=1):
        name, dtype, *dims = line.split() if len(line.split()) > 2 else ("", "")
        if dtype not in DTYPES or not dims or not all(_DIM.fullmatch(dim) for dim in dims):
            raise UserError(f"{where} line {number} is not `name dtype dim ...`: {line!r:.80}; {REBUILD}")
        features.append(Feature(name, dtype, tuple(map(int, dims))))
    names = [feature.name for feature in features]
    # promise: class-entry-shards-their-2
    if sorted(names) != sorted(["data", *controls]):
        raise UserError(
            f"{where} names the features {names}; expected data, {', '.join(controls)}; build it again with FORCE=1"
        )
    if sum(feature.size for feature in features) > LARGEST_RECORD:
        raise UserError(f"{where} describes records beyond {LARGEST_RECORD >> 20} MiB; {REBUILD}")
    return tuple(features)


class Shard(StrictModel):
    """One finished TFRecord file."""

    file: Annotated[str, Field(pattern=r"^(train|valid)/[A-Za-z0-9._-]+\.tfrecord$")]  # below the dataset's folder
    clips: Annotated[int, Field(ge=0)]
    bytes: Annotated[int, Field(ge=0)]
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class Split(StrictModel):
    """The shards of one split, in order."""

    planned: Annotated[int, Field(ge=0)]  # positions of the plan; clips whose audio was at fault are not in `clips`
    clips: Annotated[int, Field(ge=0)]
    shards: tuple[Shard, ...]


class DatasetInfo(StrictModel):
    """`dataset.json`. No timestamps and no host names: the same dataset has the same bytes here too."""

    format_version: int
    format: str
    label: str  # the format with its codec, as tables show it
    hop: Annotated[int, Field(gt=0)]  # samples between frames
    clip_samples: Annotated[int, Field(gt=0)]
    spec: Spec
    plan_digest: str
    format_digest: str
    format_key: dict[str, Any]  # what the format digest is made of, so that a difference can be named
    versions: dict[str, str]
    devices: tuple[str, ...]  # kinds of machine that computed arrays
    splits: dict[str, Split]
    statistics: dict[str, Any] | None  # of the train split; none for discrete formats
    rejects: dict[str, int]
    licences: dict[str, str]
    notes: tuple[str, ...] = ()  # what a reader of the dataset should know, for example files that hit a time limit

    @property
    def frame_rate(self) -> Fraction:
        """Frames a second of data and controls."""
        return Fraction(self.spec.clip.sample_rate, self.hop)

    @property
    def codec_digest(self) -> str:
        """SHA-256 of the codec's weights or of the transform's kernels; empty for audio."""
        return str(self.format_key.get("transform", ""))


def folder_name(format_name: str) -> str:
    """Name of a dataset's folder."""
    return f"PVT-{format_name}"


def shard_name(format_name: str, split: str, number: int, shards: int) -> str:
    """File of a shard, relative to the dataset's folder."""
    return f"{split}/{folder_name(format_name)}-{split}-{number:05d}-of-{shards:05d}.tfrecord"


def find_dataset(folder: Path, format_name: str | None = None) -> Path:
    """The dataset folder meant by `folder`: itself when it holds a manifest, else PVT-<format> below it.

    Raises:
        UserError: there is none.
    """
    if (folder / MANIFEST).is_file():
        return folder
    if format_name is not None and (folder / folder_name(format_name) / MANIFEST).is_file():
        return folder / folder_name(format_name)
    wanted = folder if format_name is None else folder / folder_name(format_name)
    if wanted.is_dir():
        raise UserError(
            f"{wanted} has no {MANIFEST}, so it is not finished; run the make dataset command again to end it"
        )
    raise UserError(f"there is no dataset at {wanted}; build it with make dataset, or name another folder with DATA=")


def load_manifest(folder: Path) -> DatasetInfo:
    """Read and check the manifest of a dataset folder.

    Raises:
        UserError: unfinished, of an unknown version, or damaged.
    """
    path = find_dataset(folder) / MANIFEST
    try:
        value = json.loads(path.read_bytes())
        version = value["format_version"]
    except (ValueError, TypeError, KeyError, RecursionError):
        raise UserError(f"{path} is not a manifest in JSON; {REBUILD}") from None
    # promise: readers-refuse-sentence
    if version != FORMAT_VERSION:
        raise UserError(f"{path} has format version {version!r:.20}, this program reads {FORMAT_VERSION}; update it")
    value.pop("batching_share", None)  # a statistic that releases up to 0.2.0 wrote
    info = parse_model(DatasetInfo, value, str(path))
    if set(info.splits) != set(SPLITS):
        raise UserError(f"{path} lists the splits {sorted(info.splits)}; expected train and valid")
    return info


def load_info(folder: Path) -> tuple[DatasetInfo, tuple[Feature, ...]]:
    """Read and check the manifest and shapes.txt of a dataset folder.

    Raises:
        UserError: unfinished, of an unknown version, or damaged.
    """
    info = load_manifest(folder)
    shapes = find_dataset(folder) / SHAPES
    try:
        features = parse_shapes(shapes.read_text(encoding="utf-8"), str(shapes), info.spec.controls)
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{shapes} cannot be read ({error}); run make dataset again") from None
    return info, features

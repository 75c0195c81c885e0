"""Files beside the shards: `shapes.txt`, the shapes of a record, and `dataset.json`, the manifest.

`dataset.json` is written last; a folder without it is not a finished dataset. Shards are not opened here.
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
import pydantic
from pydantic import Field

from data_specs.controls import CONTROLS
from data_specs.errors import UserError
from data_specs.records import LARGEST_RECORD, REBUILD, RecordLayout
from data_specs.spec import PUBLISHED_CONTROLS, SPLITS, Spec
from data_specs.strict import StrictModel, parse_model

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
        """Size in bytes."""
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
    """Return the features of one clip: `data` of `shape`, and the controls at `frames` frames."""
    return (
        Feature("data", dtype, shape),
        *(Feature(name, "float32", CONTROLS[name].shape(frames, instruments)) for name in CONTROLS if name in controls),
    )


def layout(features: tuple[Feature, ...]) -> RecordLayout:
    """Return the layout of records with these features and an id."""
    return RecordLayout.of({**{feature.name: feature.size for feature in features}, "id": ID_BYTES})


def parse_shapes(text: str, where: str, controls: Sequence[str] = PUBLISHED_CONTROLS) -> tuple[Feature, ...]:
    """Parse the text of a shapes.txt.

    Raises:
        UserError: a line that is not `name dtype dim dim ...`.
    """
    features = []
    for number, line in enumerate(text.splitlines(), start=1):
        name, dtype, *dims = line.split() if len(line.split()) > 2 else ("", "")
        if dtype not in DTYPES or not dims or not all(_DIM.fullmatch(dim) for dim in dims):
            raise UserError(f"{where} line {number} must be `name dtype dim ...`, got {line!r:.80}; {REBUILD}")
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

    planned: Annotated[int, Field(ge=0)]  # positions of the plan; `clips` excludes those rejected for their audio
    clips: Annotated[int, Field(ge=0)]
    shards: tuple[Shard, ...]


class DatasetInfo(StrictModel):
    """Contents of `dataset.json`. It has no timestamps and no host names, so that equal datasets have equal bytes."""

    format_version: int
    format: str
    label: str  # name of the format and its codec, for tables
    hop: Annotated[int, Field(gt=0)]  # samples between frames
    clip_samples: Annotated[int, Field(gt=0)]
    spec: Spec
    plan_digest: str
    format_digest: str
    format_key: dict[str, Any]  # inputs of the format digest, to name a difference
    versions: dict[str, str]
    devices: tuple[str, ...]  # kinds of machine that computed arrays
    splits: dict[str, Split]
    statistics: dict[str, Any] | None  # of the train split; none for discrete formats
    rejects: dict[str, int]
    licences: dict[str, str]
    notes: tuple[str, ...] = ()  # remarks for users, for example files that exceeded a time limit
    # With expression, by instrument: largest deviation of the preset's level from 40 log10(velocity / 127) dB.
    velocity_law_db: dict[str, float] = Field(default_factory=dict)

    @pydantic.model_serializer(mode="wrap")
    def _without_defaults(self, handler: pydantic.SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Omit keys that older versions do not know where they have their defaults."""
        values: dict[str, Any] = handler(self)
        if not self.velocity_law_db:
            del values["velocity_law_db"]
        return values

    @property
    def frame_rate(self) -> Fraction:
        """Frames per second of data and controls."""
        return Fraction(self.spec.clip.sample_rate, self.hop)

    @property
    def codec_digest(self) -> str:
        """SHA-256 of the codec's weights or of the transform's kernels; empty for audio."""
        return str(self.format_key.get("transform", ""))


def folder_name(format_name: str) -> str:
    """Return the name of a dataset's folder."""
    return f"PVT-{format_name}"


def shard_name(format_name: str, split: str, number: int, shards: int) -> str:
    """Return the path of a shard, relative to the dataset's folder."""
    return f"{split}/{folder_name(format_name)}-{split}-{number:05d}-of-{shards:05d}.tfrecord"


def find_dataset(folder: Path, format_name: str | None = None) -> Path:
    """Return `folder` if it contains a manifest, else PVT-<format> below it.

    Raises:
        UserError: neither is a finished dataset.
    """
    if (folder / MANIFEST).is_file():
        return folder
    if format_name is not None and (folder / folder_name(format_name) / MANIFEST).is_file():
        return folder / folder_name(format_name)
    wanted = folder if format_name is None else folder / folder_name(format_name)
    if wanted.is_dir():
        raise UserError(
            f"{wanted} has no {MANIFEST}, so it is not finished; run the same make dataset command again to finish it"
        )
    raise UserError(f"there is no dataset at {wanted}; build it with make dataset, or name another folder with DATA=")


def load_manifest(folder: Path) -> DatasetInfo:
    """Read and validate the manifest of a dataset folder.

    Raises:
        UserError: unfinished, of an unknown version, or damaged.
    """
    path = find_dataset(folder) / MANIFEST
    try:
        value = json.loads(path.read_bytes())
        version = value["format_version"]
    except (ValueError, TypeError, KeyError, RecursionError):
        raise UserError(f"{path} must be a manifest in JSON; {REBUILD}") from None
    # promise: readers-refuse-sentence
    if version != FORMAT_VERSION:
        raise UserError(f"{path} must have format version {FORMAT_VERSION}, got {version!r:.20}; update this project")
    value.pop("batching_share", None)  # written by releases up to 0.2.0
    info = parse_model(DatasetInfo, value, str(path))
    if set(info.splits) != set(SPLITS):
        raise UserError(f"{path} must list the splits train and valid, got {sorted(info.splits)}")
    return info


def load_info(folder: Path) -> tuple[DatasetInfo, tuple[Feature, ...]]:
    """Read and validate the manifest and shapes.txt of a dataset folder.

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

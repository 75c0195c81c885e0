"""Files beside the shards: `shapes.txt`, the shapes of a record, and `dataset.json`, the manifest.

A build writes `dataset.json` last; a folder without it is not a finished dataset. Shards are not opened here.
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
    """One named array of a record, stored little-endian in C order."""

    name: str
    dtype: str
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        """Size of the array in bytes."""
        return math.prod(self.shape) * np.dtype(self.dtype).itemsize

    @property
    def stored_dtype(self) -> np.dtype:
        """The numpy dtype, little-endian."""
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
    """Return the features of one clip: `data`, then the `controls` as float32 in the order of `CONTROLS`.

    Args:
        shape: of `data`.
        dtype: of `data`, one of DTYPES.
        frames: number of frames of each control.
        instruments: number of instruments of the dataset.
        controls: names of the controls.
    """
    return (
        Feature("data", dtype, shape),
        *(Feature(name, "float32", CONTROLS[name].shape(frames, instruments)) for name in CONTROLS if name in controls),
    )


def layout(features: tuple[Feature, ...]) -> RecordLayout:
    """Return the layout of records with these features and an `id` of 16 bytes."""
    return RecordLayout.of({**{feature.name: feature.size for feature in features}, "id": ID_BYTES})


def parse_shapes(text: str, where: str, controls: Sequence[str] = PUBLISHED_CONTROLS) -> tuple[Feature, ...]:
    """Return the features that the text of a shapes.txt lists, in its order; `where` names the file in errors.

    Raises:
        UserError: a line is not `name dtype dim dim ...`, the names are not `data` and `controls` in any order, or a
            record would exceed 256 MiB.
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
    """One finished TFRecord file: path, number of clips, size and digest."""

    file: Annotated[str, Field(pattern=r"^(train|valid)/[A-Za-z0-9._-]+\.tfrecord$")]  # below the dataset's folder
    clips: Annotated[int, Field(ge=0)]
    bytes: Annotated[int, Field(ge=0)]
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class Split(StrictModel):
    """The shards of one split in order, and its numbers of clips."""

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
        """Return the values to write, without `velocity_law_db` if it is empty: older versions do not know this key."""
        values: dict[str, Any] = handler(self)
        if not self.velocity_law_db:
            del values["velocity_law_db"]
        return values

    @property
    def frame_rate(self) -> Fraction:
        """Frames of data and controls per second, exactly."""
        return Fraction(self.spec.clip.sample_rate, self.hop)

    @property
    def codec_digest(self) -> str:
        """SHA-256, hex, of the codec's weights (encodec, disc) or of the kernels (cqt); empty for audio."""
        return str(self.format_key.get("transform", ""))


def folder_name(format_name: str) -> str:
    """Return the name of the folder of a dataset of this format, for example PVT-cqt."""
    return f"PVT-{format_name}"


def shard_name(format_name: str, split: str, number: int, shards: int) -> str:
    """Return the path of shard `number`, from 0, of `shards` of a split, relative to the dataset's folder."""
    return f"{split}/{folder_name(format_name)}-{split}-{number:05d}-of-{shards:05d}.tfrecord"


def find_dataset(folder: Path, format_name: str | None = None) -> Path:
    """Return `folder` if it contains dataset.json, else its subfolder PVT-<format_name> if that does.

    Without a format name only `folder` itself is looked at.

    Raises:
        UserError: neither contains dataset.json; the message says whether the folder exists.
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
    """Read and validate the dataset.json in `folder`.

    Raises:
        UserError: there is none, it is not JSON, its format version is another, or a key or value is not as expected.
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
    """Read and validate dataset.json and shapes.txt in `folder`; return the manifest and the features of a record.

    Raises:
        UserError: one of the files is missing, unreadable or not as expected, or the format version is another.
    """
    info = load_manifest(folder)
    shapes = find_dataset(folder) / SHAPES
    try:
        features = parse_shapes(shapes.read_text(encoding="utf-8"), str(shapes), info.spec.controls)
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{shapes} cannot be read ({error}); run make dataset again") from None
    return info, features

"""The recordings in a folder, with a label and a group for each.

The label of a file is the name of its subfolder of the first level, or `unlabelled` for a file directly in the folder.
Files of one group are in the same split. By default each file is a group of its own. `metadata.csv` in the folder may
set labels and groups; its columns `label` and `group` are optional:

    file_name,label,group
    oboe/a.wav,oboe,session 1
"""

import csv
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from data_specs.errors import UserError
from data_specs.io.audio import AUDIO_SUFFIXES
from data_specs.spec import Instrument, Spec
from pipeline.midi.sources import FileKind, SourceFile, list_folder, printable
from pipeline.rejects import Rejects

METADATA = "metadata.csv"  # the name that Hugging Face datasets expects too
UNLABELLED = "unlabelled"
MOST_LABELS = 256
KIND = FileKind("AUDIO", lambda name: name.lower().endswith(AUDIO_SUFFIXES), "not an audio file name", (METADATA,))


@dataclass(frozen=True)
class Catalog:
    """The labels and groups in metadata.csv. Keys are paths of files below the folder, with `/`."""

    labels: dict[str, str]
    groups: dict[str, str]

    def label(self, name: str) -> str:
        """Return the label of a file; `name` is its path below the folder.

        It is that of metadata.csv, else the first-level subfolder, else `unlabelled` for a file directly in the folder.
        """
        parts = PurePosixPath(name).parts
        return self.labels.get(name, parts[0] if len(parts) > 1 else UNLABELLED)

    def group(self, name: str, digest: str) -> str:
        """Return the group of a file: that of metadata.csv, else `digest`, the digest of the file's content.

        `name` is the path of the file below the folder.
        """
        return self.groups.get(name, digest)


def read_catalog(folder: str) -> Catalog:
    """Read metadata.csv in a folder. Without that file the catalog is empty. Empty cells are left out.

    Raises:
        UserError: the file cannot be read, is not CSV in UTF-8, or has rows but no column `file_name`.
    """
    path = Path(folder) / METADATA
    if not path.is_file():
        return Catalog({}, {})
    try:
        rows = list(csv.DictReader(path.read_text(encoding="utf-8-sig").splitlines(), strict=True))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path} must be CSV in UTF-8 ({error}); correct it or remove it") from None
    if rows and "file_name" not in rows[0]:
        raise UserError(f"{path} must have the column file_name, and label or group or both; got {list(rows[0])}")
    named = [(printable((row["file_name"] or "").strip().removeprefix("./")), row) for row in rows]
    labels, groups = (
        {name: value.strip() for name, row in named if (value := row.get(column)) and value.strip()}
        for column in ("label", "group")
    )
    return Catalog(labels, groups)


def list_recordings(folder: str, rejects: Rejects) -> list[SourceFile]:
    """Return the audio files below a folder and its subfolders, sorted by path, without opening them.

    A file is an audio file by its suffix. Other files are added to `rejects`, except metadata.csv.

    Raises:
        UserError: `folder` is not a folder, cannot be read, or holds no audio file.
    """
    if not Path(folder).is_dir():
        raise UserError(f"AUDIO={printable(folder)} must be a folder of recordings, got no folder; check the path")
    root = Path(folder).resolve()
    found = [SourceFile(printable(name), path=str(root / name)) for name in list_folder(folder, rejects, KIND)]
    if not found:
        raise UserError(
            f"AUDIO={printable(folder)} holds no {', '.join(AUDIO_SUFFIXES)} file; choose another folder, or MIDI="
        )
    return found


def with_labels(spec: Spec) -> Spec:
    """Return a copy of a spec of recordings with the labels of its files, in alphabetical order, as instruments.

    A spec that names instruments is returned unchanged.

    Raises:
        UserError: the folder or its metadata.csv cannot be read, there is no audio file, or there are more than
            `MOST_LABELS` labels.
    """
    if spec.instruments:
        return spec
    catalog = read_catalog(spec.source.audio)
    labels = sorted({catalog.label(file.name) for file in list_recordings(spec.source.audio, Rejects())})
    if len(labels) > MOST_LABELS:
        raise UserError(
            f"AUDIO={spec.source.audio} must have at most {MOST_LABELS} labels, got {len(labels)} subfolders; "
            f"give fewer in the column label of {METADATA}"
        )
    return spec.model_copy(update={"instruments": tuple(Instrument(name=label) for label in labels)})

"""The files of a folder of recordings with their labels and groups.

A label is the name of the subfolder of the first level, `unlabelled` for files directly in the folder. Files of one
group are in one split; each file is a group of its own unless `metadata.csv` says otherwise:

    file_name,label,group
    oboe/a.wav,oboe,session 1
"""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from data_specs.errors import UserError
from data_specs.io.audio import AUDIO_SUFFIXES
from data_specs.spec import Instrument, Spec
from pipeline.midi.sources import FileKind, SourceFile, list_folder, printable
from pipeline.rejects import Rejects

METADATA = "metadata.csv"  # as in the folders of audio that Hugging Face datasets reads
UNLABELLED = "unlabelled"
MOST_LABELS = 256
KIND = FileKind("AUDIO", lambda name: name.lower().endswith(AUDIO_SUFFIXES), "not an audio file name", (METADATA,))


@dataclass(frozen=True)
class Catalog:
    """Labels and groups of files by name, as far as metadata.csv gives them."""

    labels: dict[str, str]
    groups: dict[str, str]

    def label(self, name: str) -> str:
        """Return the label of the file `name`, its path below the folder."""
        parts = PurePosixPath(name).parts
        return self.labels.get(name, parts[0] if len(parts) > 1 else UNLABELLED)

    def group(self, name: str, digest: str) -> str:
        """Return the group of a file; its content for one without a group."""
        return self.groups.get(name, digest)


def read_catalog(folder: str) -> Catalog:
    """Read the metadata.csv of a folder; without one, labels are those of the subfolders.

    Raises:
        UserError: it is not CSV in UTF-8 with the column `file_name`.
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
    """List the audio files below a folder by name, without opening them.

    Raises:
        UserError: the folder cannot be read, or holds no audio file.
    """
    if not Path(folder).is_dir():
        raise UserError(f"AUDIO={printable(folder)} must be a folder of recordings; check the path")
    root = Path(folder).resolve()
    found = [SourceFile(printable(name), path=str(root / name)) for name in list_folder(folder, rejects, KIND)]
    if not found:
        raise UserError(
            f"AUDIO={printable(folder)} holds no {', '.join(AUDIO_SUFFIXES)} file; choose another folder, or MIDI="
        )
    return found


def with_labels(spec: Spec) -> Spec:
    """Return a spec of recordings with the labels of its folder as instruments, unless it names them itself.

    Raises:
        UserError: the folder cannot be read, or has too many labels.
    """
    if spec.instruments:
        return spec
    labels = _labels(list_recordings(spec.source.audio, Rejects()), read_catalog(spec.source.audio))
    if len(labels) > MOST_LABELS:
        raise UserError(
            f"AUDIO={spec.source.audio} must have at most {MOST_LABELS} labels, got {len(labels)} subfolders; "
            f"give fewer in the column label of {METADATA}"
        )
    return spec.model_copy(update={"instruments": tuple(Instrument(name=label) for label in labels)})


def _labels(files: Sequence[SourceFile], catalog: Catalog) -> list[str]:
    return sorted({catalog.label(file.name) for file in files})

"""What `CONTROLS=` names: shipped curve files, a user's own, and clips of a dataset with the sound they come from."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from data_specs.controls import CONTROLS
from data_specs.controls.curve_files import READERS, read_curves
from data_specs.controls.curves import Curves
from data_specs.dataset import MANIFEST, DatasetInfo, folder_name
from data_specs.errors import UserError
from data_specs.representations import representation
from data_specs.spec import SPLITS
from training.data.dataset import Dataset

CLIPS_OF_DATASET = re.compile(r"(?P<folder>.+):(?P<split>\w+):(?P<first>\d+)(?:-(?P<last>\d+))?")
MOST_CLIPS = 100_000


@dataclass(frozen=True)
class ControlSet:
    """Curves with a name; those of a dataset's clip come with the clip's own sound.

    Attributes:
        name: for files and headings, without folders.
        curves: what samples follow.
        real: audio of the clip, float32 [1, N]; None for curves that were drawn.
        real_label: what `real` was decoded from.
    """

    name: str
    curves: Curves
    real: Tensor | None = None
    real_label: str = ""


def shipped_curves() -> dict[str, Path]:
    """The curve files that come with the project, by name."""
    return {path.stem: path for path in sorted((Path(__file__).parent / "curves").glob("*.json"))}


def control_sets(text: str, format_name: str | None = None) -> list[ControlSet]:
    """Everything that a comma list names, in its order.

    Args:
        text: names of shipped files, paths of .json or .csv files, `folder:split:first-last` for clips of a dataset.
        format_name: the format to look for where `folder` is the parent of several datasets.

    Raises:
        UserError: something that is none of these, or that cannot be read.
    """
    if not text.strip():
        return [ControlSet(name, read_curves(path)) for name, path in shipped_curves().items()]
    parts = [text] if Path(text).is_file() else [part.strip() for part in text.split(",") if part.strip()]
    found = [one for part in parts for one in _named(part, format_name)]
    if not found:
        raise UserError(f"CONTROLS={text} names nothing; {_advice()}")
    names = [one.name for one in found]
    if twins := {name for name in names if names.count(name) > 1}:
        raise UserError(f"CONTROLS names {min(twins)!r} twice; leave one out or rename a file")
    return found


def dataset_clips(folder: Path, split: str, indices: Sequence[int], format_name: str | None = None) -> list[ControlSet]:
    """The curves and sound of clips of a dataset.

    The sound is the original rendering where PVT-audio lies beside and holds the clip, else what the format decodes to.

    Raises:
        UserError: no such dataset, split or clip.
    """
    if split not in SPLITS:
        raise UserError(f"there is no split {split!r}; choose train or valid")
    data = Dataset(folder, "train" if split == "train" else "valid", format_name=format_name)
    if indices and max(indices) >= len(data):
        raise UserError(f"{data.folder} has {len(data)} {split} clips, numbered from 0; there is no {max(indices)}")
    audio = _beside(data)
    names = data.info.spec.instrument_names
    found = []
    for index in indices:
        clip, clip_id = _read(data, index)
        arrays = {name: clip[name].numpy() for name in CONTROLS}
        curves = Curves.from_arrays(arrays, names, data.info.hop)
        sound, label = _sound(data.info, clip["data"], _original(audio, index, clip_id))
        found.append(ControlSet(f"{split}-{index:05d}-{curves.instruments[0]}", curves, sound, label))
    return found


def _named(part: str, format_name: str | None) -> list[ControlSet]:
    shipped = shipped_curves()
    if part in shipped:
        return [ControlSet(part, read_curves(shipped[part]))]
    if Path(part).suffix.lower() in READERS:
        return [ControlSet(Path(part).stem, read_curves(Path(part)))]
    if match := CLIPS_OF_DATASET.fullmatch(part):
        first = int(match["first"])
        last = first if match["last"] is None else int(match["last"])
        if not first <= last < first + MOST_CLIPS:
            raise UserError(f"CONTROLS={part}: clips {first}-{last} are not a range; write for example valid:0-3")
        folder = Path(match["folder"])
        wanted = None if (folder / MANIFEST).is_file() else format_name  # curves suit a model of any format
        return dataset_clips(folder, match["split"], range(first, last + 1), wanted)
    if Path(part).exists():
        raise UserError(f"CONTROLS={part} is no curve file; {_advice()}")
    raise UserError(f"CONTROLS={part} is not known and no such file exists; {_advice()}")


def _advice() -> str:
    names = ", ".join(shipped_curves())
    return f"write one of {names}, a .json or .csv curve file, or clips such as data/PVT-encodec:valid:0-3"


def _beside(data: Dataset) -> Dataset | None:
    """The original renderings of the same plan, where they lie beside `data`."""
    folder = data.folder.parent / folder_name("audio")
    if data.info.format == "audio" or not (folder / MANIFEST).is_file():
        return None
    audio = Dataset(folder, data.split)
    return audio if audio.info.plan_digest == data.info.plan_digest else None


def _original(audio: Dataset | None, index: int, clip_id: str) -> Tensor | None:
    # Formats are prefixes of one plan and leave out the same clips, so a clip has the same number in all of them.
    if audio is None or index >= len(audio):
        return None
    clip, its_id = _read(audio, index)
    return clip["data"] if its_id == clip_id else None


def _read(data: Dataset, index: int) -> tuple[dict[str, Tensor], str]:
    clip = data[index]
    return {name: value for name, value in clip.items() if isinstance(value, Tensor)}, str(clip["id"])


def _sound(info: DatasetInfo, stored: Tensor, original: Tensor | None) -> tuple[Tensor, str]:
    """Audio float32 [1, N] and what it was heard through."""
    if original is not None:
        return original.float(), "rendered"
    codec = info.spec.codec
    through = representation(info.format, codec.name, codec.codebooks)
    if info.codec_digest and through.digest != info.codec_digest:
        raise UserError(
            f"the codec {codec.name} at hand is not the one that this dataset was made with; put its weights back"
        )
    with torch.no_grad():
        return through.decode(stored[None])[0], "rendered" if info.format == "audio" else f"through {through.label}"

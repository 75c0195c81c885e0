"""Sources of control curves for CONTROLS= and AUDIO=: shipped and other curve files, dataset clips, recordings."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from data_specs.analysis.recording_curves import curves_from_audio, read_recording
from data_specs.controls.curve_files import READERS, as_curves, read_curves
from data_specs.controls.curves import Curves
from data_specs.dataset import MANIFEST, folder_name
from data_specs.errors import UserError
from data_specs.rates import SAMPLE_RATE
from data_specs.spec import SPLITS
from training.data.dataset import Dataset
from training.metadata import matching_representation

DATASET_CLIPS = re.compile(r"(?P<folder>.+):(?P<split>\w+):(?P<first>\d+)(?:-(?P<last>\d+))?")
MAX_CLIPS = 100_000
ALIASES = {"unsaid": "partial"}  # former names of shipped files


@dataclass(frozen=True)
class ControlSet:
    """Curves with a name, and for curves of a dataset clip its audio.

    Attributes:
        name: name for files and headings, without folders.
        curves: curves that samples follow.
        real: audio of the clip, float32 [1, N] of N audio samples; None for curves of files and recordings.
        real_label: "rendered" for the original audio, or "through" and the name of the codec or representation that
            `real` was decoded by; empty if there is no `real`.
    """

    name: str
    curves: Curves
    real: Tensor | None = None
    real_label: str = ""


def shipped_curves() -> dict[str, Path]:
    """Return the paths of the shipped curve files by name (file name without .json), in alphabetical order."""
    return {path.stem: path for path in sorted((Path(__file__).parent / "curves").glob("*.json"))}


def load_curves(value: Curves | Mapping[str, Any] | str | Path) -> Curves:
    """Return the curves that `value` gives.

    It is the name of a shipped curve file (present or former), the path of a .json or .csv file, the content of a curve
    file as a dict, or `Curves`, which are returned unchanged. A file is read.

    Raises:
        UserError: the file is unreadable, or it or the dict is not a valid curve file.
    """
    path = None if isinstance(value, (Curves, Mapping)) else shipped_curves().get(ALIASES.get(str(value), str(value)))
    return as_curves(value if path is None else path)


def control_sets(text: str, format_name: str | None = None, names: Sequence[str] | None = None) -> list[ControlSet]:
    """Read the sets of controls that CONTROLS= names, and return them in its order; for an empty text shipped curves.

    Args:
        text: comma list of names of shipped files, paths of .json or .csv files, and `folder:split:first-last` for
            clips of a dataset, from 0, the last included (`folder:split:first` for one). A text that is the path of a
            file is that one file, even with commas.
        format_name: format to read if `folder` is the folder above datasets of several formats. A dataset folder is
            read whatever its format.
        names: controls of the model. For an empty text, shipped curves of other controls are left out; None for all.

    Raises:
        UserError: a part is none of these, occurs twice, or cannot be read, or a text of commas alone.
    """
    parts = [text] if Path(text).is_file() else [part.strip() for part in text.split(",") if part.strip()]
    if text.strip() and not parts:
        raise UserError(f"CONTROLS= must name one or more curves, got {text!r:.40}; {_advice()}")
    parts = parts or [name for name, path in shipped_curves().items() if _fits(path, names)]
    if repeated := {part for part in parts if parts.count(part) > 1}:
        raise UserError(f"CONTROLS= must name each source once, got {min(repeated)} twice; remove one")
    named = _file_names(parts)
    return [found for part in parts for found in _parse(part, named.get(part, part), format_name)]


def dataset_clips(folder: Path, split: str, indices: Sequence[int], format_name: str | None = None) -> list[ControlSet]:
    """Return curves and audio of clips of a dataset, named <split>-<index>-<instrument>.

    The audio is the original rendering if PVT-audio of the same plan is beside the dataset and has the clip, else
    decoded from the stored data.

    Args:
        folder: a PVT-<format> folder, or the folder above it if `format_name` is given.
        split: train or valid.
        indices: indices of the clips, from 0.
        format_name: required format; None for any.

    Raises:
        UserError: no such dataset, split or clip, a damaged shard, or the present codec is not the one that made the
            data.
    """
    if split not in SPLITS:
        raise UserError(f"the split must be train or valid, got {split!r}")
    data = Dataset(folder, "train" if split == "train" else "valid", format_name=format_name)
    if indices and max(indices) >= len(data):
        raise UserError(f"{data.folder} has {len(data)} {split} clips, numbered from 0; there is no {max(indices)}")
    rendered = _rendered(data)
    names = data.info.spec.instrument_names
    found = []
    for index in indices:
        clip = data[index]
        controls = {name: array.numpy() for name, array in clip.items() if name not in ("data", "id")}
        curves = Curves.from_arrays(controls, names, data.info.hop)
        real, label = _audio(data, clip["data"], _original(rendered, index, clip["id"]))
        found.append(ControlSet(f"{split}-{index:05d}-{curves.instruments[0]}", curves, real, label))
    return found


def _fits(path: Path, names: Sequence[str] | None) -> bool:
    try:
        return names is None or bool(read_curves(path).for_controls(names))
    except UserError:
        return False


def recording_set(
    path: Path,
    names: Sequence[str],
    length: Callable[[float], int],
    *,
    seconds: float | None,
    start_s: float,
    sharpness: float,
    instrument: str | None,
    tracker: str,
) -> tuple[ControlSet, int]:
    """Read a recording; return its curves for the controls of a model, and their length in audio samples.

    The set is named as the file without its suffix, and has no real audio.

    Args:
        path: audio file.
        names: controls of the model; those that a recording does not give are left out.
        length: function that returns the number of audio samples for a number of seconds, rounded up to a frame.
        seconds: length of the curves, with a rest at the end if it is longer than the recording; None for the recording
            from `start_s` to its end, at most 30 s.
        start_s: start in the recording, in seconds.
        sharpness: from 0 (smoothest curves) to 1 (every frame).
        instrument: name of an instrument of the model, for the whole length; None for unconditioned.
        tracker: pitch tracker, yin or swift-f0.

    Raises:
        UserError: not an audio file, nothing audible in it, a value out of range, or a tracker that is unknown or not
            installed.
    """
    audio = read_recording(path, seconds, start_s)
    samples = length(len(audio) / SAMPLE_RATE)
    padded = np.pad(audio, (0, max(0, samples - len(audio))))
    curves = curves_from_audio(padded, names, sharpness, instrument=instrument, tracker=tracker)
    return ControlSet(path.stem, curves.cropped(samples)), samples


def _file_names(parts: Sequence[str]) -> dict[str, str]:
    """Return a name for each of `parts` that is the path of a curve file, by the part.

    It is the file name without suffix; if another file or a shipped curve has that name, it is the whole path with
    suffix, joined by dashes.
    """
    files = [Path(part) for part in parts if Path(part).suffix.lower() in READERS]
    taken = [path.stem for path in files] + [part for part in parts if part in shipped_curves()]
    names = {}
    for path in files:
        name = path.stem
        if taken.count(name) > 1:
            name = "-".join(part for part in (*path.parts[:-1], path.stem, path.suffix[1:]) if part not in ("/", ".."))
        names[str(path)] = name
    return {part: names[str(Path(part))] for part in parts if str(Path(part)) in names}


def _parse(part: str, name: str, format_name: str | None) -> list[ControlSet]:
    if ALIASES.get(part, part) in shipped_curves():
        return [ControlSet(ALIASES.get(part, part), load_curves(part))]
    if Path(part).suffix.lower() in READERS:
        return [ControlSet(name, read_curves(Path(part)))]
    if match := DATASET_CLIPS.fullmatch(part):
        first = int(match["first"])
        last = first if match["last"] is None else int(match["last"])
        if not first <= last < first + MAX_CLIPS:
            raise UserError(f"CONTROLS={part} must have a range of clips such as valid:0-3, got {first}-{last}")
        folder = Path(match["folder"])
        wanted = None if (folder / MANIFEST).is_file() else format_name  # curves suit a model of any format
        return dataset_clips(folder, match["split"], range(first, last + 1), wanted)
    if Path(part).exists():
        raise UserError(f"CONTROLS={part} must be a curve file; {_advice()}")
    raise UserError(f"CONTROLS={part} is neither a known name nor a file; {_advice()}")


def _advice() -> str:
    names = ", ".join(shipped_curves())
    return f"write one of {names}, a .json or .csv curve file, or clips such as data/PVT-encodec:valid:0-3"


def _rendered(data: Dataset) -> Dataset | None:
    """Return the same split of PVT-audio of the same plan in the folder that contains `data`.

    None if there is none, or if `data` is PVT-audio.
    """
    folder = data.folder.parent / folder_name("audio")
    if data.info.format == "audio" or not (folder / MANIFEST).is_file():
        return None
    audio = Dataset(folder, data.split)
    return audio if audio.info.plan_digest == data.info.plan_digest else None


def _original(rendered: Dataset | None, index: int, clip_id: str) -> Tensor | None:
    # Formats are prefixes of one plan and omit the same clips, so a clip has the same number in all of them.
    if rendered is None or index >= len(rendered):
        return None
    clip = rendered[index]
    return clip["data"] if clip["id"] == clip_id else None


def _audio(data: Dataset, stored: Tensor, original: Tensor | None) -> tuple[Tensor, str]:
    """Return the audio of a clip, float32 [1, N], and its label, the `real_label` of a `ControlSet`.

    The audio is `original` [1, N], or for None decoded from `stored`, the data of the clip in the format of `data`.

    Raises:
        UserError: the present codec is not the one that made the data.
    """
    if original is not None:
        return original.float(), "rendered"
    codec = data.info.spec.codec
    transform = matching_representation(data.info.format, codec.name, codec.codebooks, data.info.codec_digest)
    with torch.no_grad():
        label = "rendered" if data.info.format == "audio" else f"through {transform.label}"
        return transform.decode(stored[None])[0], label

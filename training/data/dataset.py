"""Dataset reader: memory-mapped shards as an array of clips.

All records of a dataset have the same number of bytes, with each array at the same offset (`data_specs.records`), so
the place of clip i in the shards is computed without an index file. B clips, T frames of a clip, L frames of a crop.
"""

import mmap
from bisect import bisect_right
from itertools import accumulate
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from data_specs.arrays import Int64
from data_specs.controls import CONTROLS
from data_specs.dataset import SHAPES, Feature, Shard, find_dataset, layout, load_info
from data_specs.errors import UserError
from data_specs.records import RecordError

Clip = dict[str, Any]  # tensors by name, and the text `id`


class _Place(NamedTuple):
    """Byte range of a feature in a record (`start` to `stop`), with the numbers of bytes that crop it in time."""

    name: str
    start: int
    stop: int
    rows: int  # product of all axes but the last
    frame_bytes: int  # bytes of one row in one frame

    @classmethod
    def of(cls, feature: Feature, offset: int, frames: int) -> "_Place":
        rows = feature.size // (feature.shape[-1] * feature.stored_dtype.itemsize)
        return cls(feature.name, offset, offset + feature.size, rows, feature.size // rows // frames)

    def byte_rows(self, array: NDArray[np.generic]) -> NDArray[np.uint8]:
        """View the bytes of `array` [B, *shape], its last axis whole or cropped, as uint8 [B, rows, bytes of a row].

        Whole clips are viewed as one row, [B, 1, bytes of the feature], since one long copy is faster than many short
        ones.

        Raises:
            ValueError: the memory of `array` is not contiguous in its last axes, so that there is no such view.
        """
        view = array.reshape(len(array), self.rows, -1).view(np.uint8)
        if view[0].size == self.stop - self.start:
            view = view.reshape(len(view), 1, -1)
        if not np.may_share_memory(view, array):
            raise ValueError(
                f"the tensor for {self.name} must be contiguous in its last axes, got strides {array.strides}"
            )
        return view


class Dataset:
    """Clips of one split, in the order of the plan.

    `dataset[i]` is a dict of the stored tensors, `data` and the controls by name with the shapes in `features`, and of
    the text `id` of the clip. The CRC32C of a record is checked when this object first reads it.

    Args:
        folder: a PVT-<format> folder, or the folder above it if `format_name` is given.
        split: train or valid.
        format_name: required format; None for any.
        verify: whether to check the CRC32C.
        in_memory: whether to read the shards into memory instead of mapping them.

    Attributes:
        folder: the PVT-<format> folder.
        info: content of the manifest.
        features: name, shape and dtype of each stored tensor.

    Raises:
        UserError: no finished dataset, another format, no such split, `data` and controls of different lengths, or a
            shard that is missing, unreadable or of another size. Access to a clip whose record was altered raises
            `RecordError`, a UserError.
    """

    def __init__(
        self,
        folder: str | Path,
        split: Literal["train", "valid"] = "train",
        *,
        format_name: str | None = None,
        verify: bool = True,
        in_memory: bool = False,
    ) -> None:
        self.folder = find_dataset(Path(folder), format_name)
        self.split = split
        self.info, self.features = load_info(self.folder)
        if format_name is not None and self.info.format != format_name:
            raise UserError(
                f"{self.folder} must have the format {format_name}, got {self.info.format}; "
                f"give a folder of {format_name} clips with DATA="
            )
        if split not in self.info.splits:
            raise UserError(f"the split must be train or valid, got {split!r}")
        _check_shapes(self.features, len(self.info.spec.instruments), f"{self.folder / SHAPES}")
        self._layout = layout(self.features)
        self._shards = self.info.splits[split].shards
        self._ends = list(accumulate(shard.clips for shard in self._shards))
        self._buffers = [self._open(shard, in_memory) for shard in self._shards]
        self._records = [
            np.frombuffer(buffer, np.uint8).reshape(shard.clips, self._layout.size)
            for buffer, shard in zip(self._buffers, self._shards, strict=True)
        ]
        self._places = [_Place.of(f, self._layout.offsets[f.name], self.frames) for f in self.features]
        self._verify, self._in_memory = verify, in_memory
        self._touched = np.zeros(len(self), dtype=bool)

    def __reduce__(self) -> tuple[Any, ...]:
        """Return how to pickle the dataset: by folder, split and options, so that a new process opens the shards."""
        return _reopen, (self.folder, self.split, self._verify, self._in_memory)

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def __getitem__(self, index: int) -> Clip:
        """Return one whole clip as new tensors by name, and its `id`; a negative index counts from the end.

        Raises:
            IndexError: there is no such clip.
            RecordError: the record was altered; checked at the first read.
        """
        if not -len(self) <= index < len(self):
            raise IndexError(f"{self.folder} has {len(self)} {self.split} clips, there is no clip {index}")
        index %= len(self)
        number, within = self._place_of(index)
        self._check(index, number, within)
        values = self._layout.values(self._records[number][within])
        clip: Clip = {f.name: torch.from_numpy(_array(f, values[f.name])) for f in self.features}
        clip["id"] = values["id"].tobytes().decode("ascii", "backslashreplace")
        return clip

    @property
    def frames(self) -> int:
        """Number of frames T of the controls of one whole clip."""
        return next(feature.shape[-1] for feature in self.features if feature.name != "data")

    @property
    def frame_rate(self) -> float:
        """Frames of the controls per second."""
        return self.frames * self.info.spec.clip.sample_rate / self.info.clip_samples

    def crop_frames(self, seconds: float | None) -> int:
        """Return the number of frames L of a crop of `seconds`, rounded down; for None the number T of a whole clip.

        Raises:
            UserError: `seconds` is longer than the clips, or shorter than one frame.
        """
        if seconds is None:
            return self.frames
        whole = self.info.clip_samples / self.info.spec.clip.sample_rate
        frames = int(self.frames * seconds / whole)
        if not 0 < frames <= self.frames:
            raise UserError(
                f"training.seconds must be between a frame and {whole:g}, the length of the clips of {self.folder}, "
                f"got {seconds:g}"
            )
        return frames

    def empty(self, clips: int, frames: int | None = None, pinned: bool = False) -> dict[str, Tensor]:
        """Return uninitialized tensors for `gather` by name of the feature, each [clips, *shape] in its dtype.

        Args:
            clips: number of clips.
            frames: number of frames L, to which the last axis is cut; None, or T and more, for whole clips.
            pinned: whether to use page-locked memory, for asynchronous copies to a GPU.
        """
        frames = self.frames if frames is None else frames
        return {
            f.name: torch.empty(
                (clips, *f.shape[:-1], f.shape[-1] // self.frames * frames if frames < self.frames else f.shape[-1]),
                dtype=getattr(torch, f.dtype),
                pin_memory=pinned,
            )
            for f in self.features
        }

    def gather(
        self, indices: Int64, out: dict[str, Tensor] | None = None, starts: Int64 | None = None
    ) -> dict[str, Tensor]:
        """Copy the stored arrays of clips to tensors.

        Args:
            indices: index of each clip, int64 [B], from 0.
            out: tensor of each feature, [B, *shape] with the last axis as long as the crop, as from `empty`; they are
                overwritten. None for new tensors of whole clips.
            starts: first frame of the crop of each clip, int64 [B], for data and controls alike; None for 0. The crop
                must end within the clip.

        Returns:
            `out` or the new tensors, by name of the feature.

        Raises:
            RecordError: a record was altered; checked at the first read, after the copy.
            ValueError: a tensor of `out` is not contiguous in its last axes.
        """
        out = self.empty(len(indices)) if out is None else out
        starts = np.zeros(len(indices), dtype=np.int64) if starts is None else starts
        self._announce(indices)
        # Bytes are copied instead of values, since arrays in a record are not aligned; memcpy copies a row of bytes.
        targets = [(place, place.byte_rows(out[place.name].numpy())) for place in self._places]
        for row, (index, start) in enumerate(zip(indices.tolist(), starts.tolist(), strict=True)):
            number, within = self._place_of(index)
            record = self._records[number][within]
            # promise: class-entry-shards-their-3
            for place, target in targets:
                source = record[place.start : place.stop].reshape(target.shape[1], -1)
                # promise: data-controls-cut-together
                first = start * place.frame_bytes
                target[row] = source[:, first : first + target.shape[-1]]
            # Checked after the copy, which reads the record from disk faster than a checksum does.
            self._check(index, number, within)
        return out

    def _open(self, shard: Shard, in_memory: bool) -> mmap.mmap | bytes:
        path = self.folder / shard.file
        advice = "run the make dataset command again to rebuild it"
        if shard.bytes != shard.clips * self._layout.size:
            raise UserError(
                f"{self.folder}: dataset.json and shapes.txt must give {shard.file} the same size; {advice}"
            )
        try:
            with open(path, "rb") as file:
                content = file.read() if in_memory else mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except FileNotFoundError:
            raise UserError(f"{path} is missing; {advice}") from None
        except OSError as error:
            raise UserError(f"{path} cannot be read ({error.strerror}); check its permissions and its disk") from error
        except ValueError:  # an empty file cannot be mapped
            content = b""
        if len(content) != shard.bytes:
            raise UserError(f"{path} must have {shard.bytes} bytes, got {len(content)}; {advice}")
        return content

    def _place_of(self, index: int) -> tuple[int, int]:
        """Return the number of the shard of clip `index`, and the number of its record in the shard, both from 0."""
        number = bisect_right(self._ends, index)
        return number, index - (self._ends[number] - self._shards[number].clips)

    def _check(self, index: int, number: int, within: int) -> None:
        """Check the CRC32C of clip `index`, record `within` of shard `number`, and mark the clip as read.

        A clip that was read before is not checked, nor is any if the dataset does not verify.

        Raises:
            RecordError: the record was altered.
        """
        # promise: found-crc-first-read
        if self._verify and not self._touched[index]:
            try:
                self._layout.check(self._records[number][within], f"record {within}")
            except RecordError as error:
                raise RecordError(f"{self.folder / self._shards[number].file}: {error}") from None
        self._touched[index] = True

    def _announce(self, indices: Int64) -> None:
        """Advise the kernel to read the records of those clips `indices` that were not read before, all at once.

        Shards in memory need no advice.
        """
        for index in indices[~self._touched[indices]].tolist():
            number, within = self._place_of(index)
            buffer = self._buffers[number]
            if isinstance(buffer, mmap.mmap):
                start = within * self._layout.size
                aligned = start // mmap.PAGESIZE * mmap.PAGESIZE
                buffer.madvise(mmap.MADV_WILLNEED, aligned, start + self._layout.size - aligned)


def _reopen(folder: Path, split: Literal["train", "valid"], verify: bool, in_memory: bool) -> Dataset:
    return Dataset(folder, split, verify=verify, in_memory=in_memory)


def _check_shapes(features: tuple[Feature, ...], instruments: int, where: str) -> None:
    """Check that all controls have T frames, and that the last axis of `data` is a multiple of T long.

    Args:
        features: features of the dataset.
        instruments: number of instruments, the rows of the control `instruments`.
        where: file of the shapes, for the message.

    Raises:
        UserError: it is not so.
    """
    shapes = {feature.name: feature.shape for feature in features}
    frames = next(shape[-1] for name, shape in shapes.items() if name != "data")
    fitting = all(shapes[name] == CONTROLS[name].shape(frames, instruments) for name in shapes if name != "data")
    if not fitting or shapes["data"][-1] % frames:
        raise UserError(f"{where}: data and controls must have the same number of frames; build the dataset again")


def _array(feature: Feature, content: NDArray[np.uint8]) -> NDArray[np.generic]:
    """Return a new array [*shape] of the dtype of `feature`, in native byte order, from its stored bytes `content`."""
    return np.frombuffer(content.tobytes(), feature.stored_dtype).reshape(feature.shape).astype(feature.dtype)

"""All clips of a split in the memory of a device. B clips of a batch, N control rows, L frames of a crop."""

import numpy as np
import torch
from torch import Tensor

from data_specs.arrays import Int64
from data_specs.errors import UserError
from training.conditioning import ControlLayout
from training.data.dataset import Dataset

CHUNK = 256  # clips copied at once


class ResidentClips:
    """Copy of all clips of `dataset`, one split, on a device: data in the stored dtype, controls stacked as float32.

    Args:
        dataset: dataset of the clips.
        layout: order of its controls in the stacked tensor.
        device: device of the tensors.

    Raises:
        UserError: the clips do not fit into the memory of the device, or a record was altered.
    """

    def __init__(self, dataset: Dataset, layout: ControlLayout, device: torch.device) -> None:
        stored = dataset.empty(CHUNK)
        clips, self._frames = len(dataset), dataset.frames
        try:
            self._data = torch.empty((clips, *stored["data"].shape[1:]), dtype=stored["data"].dtype, device=device)
            self._controls = torch.empty((clips, layout.total, self._frames), device=device)
        except torch.OutOfMemoryError:
            raise UserError(
                f"{clips:,} clips do not fit into the memory of {device}; remove machine.resident or lower CLIPS="
            ) from None
        for start in range(0, clips, CHUNK):
            indices = np.arange(start, min(clips, start + CHUNK))
            part = dataset.gather(indices, {name: values[: len(indices)] for name, values in stored.items()})
            self._data[start : start + CHUNK] = part["data"]
            self._controls[start : start + CHUNK] = layout.stack({name: part[name] for name in layout.names})

    def crops(self, indices: Int64, starts: Int64, frames: int) -> tuple[Tensor, Tensor]:
        """Return crops of clips as new tensors on the device.

        Args:
            indices: index of each clip, int64 [B].
            starts: first frame of the crop of each clip, int64 [B].
            frames: number of frames L of the crops, at most that of the clips.

        Returns:
            Data [B, *shape] with the last axis cropped to L frames, and controls [B, N, L].
        """
        chosen, first = torch.from_numpy(np.stack([indices, starts])).to(self._data.device, non_blocking=True)
        return self._cropped(self._data, chosen, first, frames), self._cropped(self._controls, chosen, first, frames)

    def _cropped(self, values: Tensor, chosen: Tensor, first: Tensor, frames: int) -> Tensor:
        """Return clips `chosen` [B] of `values`, the last axis cropped to `frames` frames from frame `first` [B].

        Each frame has the same number of values in the last axis.
        """
        picked = values[chosen]
        if frames == self._frames:
            return picked
        each = values.shape[-1] // self._frames
        places = first[:, None] * each + torch.arange(frames * each, device=values.device)
        return picked.gather(-1, places.view(len(places), *(1,) * (picked.ndim - 2), -1).expand(*picked.shape[:-1], -1))

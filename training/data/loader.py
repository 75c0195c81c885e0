"""Batch loader: order of clips, crops, control dropout, and prefetching by a thread.

All random numbers are functions of (seed, position), so a clip of a run is the same for any number of ranks and after a
resume. A position counts the clips of a run from 0. B clips of a batch, G clips of all ranks in a training step, N
control rows, L frames of a crop.
"""

import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import NamedTuple, Protocol, Self

import numpy as np
import torch
from torch import Tensor

from data_specs.arrays import Int64
from data_specs.controls import UNCONDITIONED
from data_specs.errors import UserError
from training.conditioning import ControlLayout
from training.config import Optimization, Training
from training.data.augmentation import augment_curves, strengths
from training.data.dataset import Dataset
from training.data.resident import ResidentClips
from training.data.shuffle import clips_at, uniform

DEPTH = 2  # batches that are prefetched


class Batch(NamedTuple):
    """Stored clips and their controls, cropped to L frames.

    Attributes:
        data: stored data [B, *shape], with the last axis cropped to L frames, in the stored dtype.
        controls: float32 [B, N, L], -1 where unconditioned; with curve augmentation [B, N + 1, L], its strength in the
            last row.
        positions: position of each clip, int64 [B], which determines its random numbers.
    """

    data: Tensor
    controls: Tensor
    positions: Int64

    def part(self, start: int, stop: int) -> "Batch":
        """Return the clips `start` to `stop` - 1 of the batch, as views."""
        return Batch(self.data[start:stop], self.controls[start:stop], self.positions[start:stop])


def control_layout(dataset: Dataset) -> ControlLayout:
    """Return the order of the controls of `dataset` in stacked tensors, with the number of rows of each."""
    return ControlLayout.from_shapes({f.name: f.shape for f in dataset.features if f.name != "data"})


class Fence(Protocol):
    """Point in the queue of a device, for example a CUDA event."""

    def synchronize(self) -> None:
        """Block the calling thread until the device has reached the point."""


class BatchBuilder:
    """Maker of batches. Each batch overwrites the tensors of the one before, unless `resident` is given.

    Args:
        dataset: dataset of the clips.
        training: seed and length of the crops and, if it is a `Training`, control dropout and curve augmentation.
        clips: largest number of clips of a batch.
        pinned: whether to use page-locked memory, for asynchronous copies to a GPU.
        resident: all clips on a device, from which batches are copied; None to read them from the dataset.

    Raises:
        UserError: the crops of `training` are longer than the clips, or shorter than one frame.
    """

    def __init__(
        self,
        dataset: Dataset,
        training: Optimization,
        clips: int,
        pinned: bool = False,
        resident: ResidentClips | None = None,
    ) -> None:
        self._dataset, self._training, self._resident = dataset, training, resident
        self._layout = control_layout(dataset)
        self._frames = dataset.crop_frames(training.seconds)
        if resident is not None:
            return
        stored = dataset.empty(clips, self._frames, pinned)
        self._data = stored["data"]
        self._controls = torch.empty((clips, self._layout.total, self._frames), pin_memory=pinned)

    def train(self, positions: Int64) -> Batch:
        """Return the training batch at `positions`, int64 [B]: the clips in random order and randomly cropped.

        If the options are a `Training`, curves are augmented with probability `curve_augmentation`, and then controls
        are dropped at random.

        Raises:
            RecordError: a record of the dataset was altered.
        """
        indices = clips_at(positions, len(self._dataset), self._training.seed)
        batch = self._filled(indices, positions, "crop")
        if not isinstance(self._training, Training):
            return batch
        if share := self._training.curve_augmentation:
            batch = self._augmented(batch, share)
        drop_controls(batch.controls, self._layout, positions, self._training)
        return batch

    def _augmented(self, batch: Batch, share: float) -> Batch:
        """Augment the curves of `batch` in place; return it with the strength of each clip as a further control row.

        `share` is the probability that a clip is augmented.
        """
        seed, positions = self._training.seed, batch.positions
        strength = strengths(positions, seed, share)
        augment_curves(batch.controls, self._layout, strength, positions, seed, self._dataset.frame_rate)
        row = torch.from_numpy(strength).to(batch.controls)[:, None, None].expand(-1, 1, self._frames)
        return batch._replace(controls=torch.cat([batch.controls, row], dim=1))

    def valid(self, positions: Int64) -> Batch:
        """Return the clips with the indices `positions`, int64 [B], cropped, without dropout and augmentation.

        A crop is a function of the seed and the index of the clip.

        Raises:
            RecordError: a record of the dataset was altered.
        """
        return self._filled(positions, positions, "valid crop")

    def _filled(self, indices: Int64, positions: Int64, stream: str) -> Batch:
        room = self._dataset.frames - self._frames + 1
        starts = (uniform(self._training.seed, stream, positions) * room).astype(np.int64)
        if self._resident is not None:
            return Batch(*self._resident.crops(indices, starts, self._frames), positions)
        data, controls = self._data[: len(indices)], self._controls[: len(indices)]
        rows = {name: controls[:, self._layout.slice(name)] for name in self._layout.names}
        self._dataset.gather(indices, {"data": data, **rows}, starts)
        return Batch(data, controls, positions)


def drop_controls(controls: Tensor, layout: ControlLayout, positions: Int64, training: Training) -> None:
    """Set controls to unconditioned (-1) in place, for each clip and control at random.

    A control (all its rows) is dropped over the whole clip with probability `control_dropout`, else with probability
    `span_dropout` between two uniform random frames.

    Args:
        controls: stacked controls, float32 [B, N, L], or with further rows, which are unchanged.
        layout: order of the controls.
        positions: position of each clip in the run, int64 [B].
        training: both probabilities, and the seed, which with the positions determines the random numbers.
    """
    frames = controls.shape[-1]
    for name in layout.names:
        rows = controls[:, layout.slice(name)]
        # promise: feature-clip-own-share
        whole = uniform(training.seed, "drop", name, positions) < training.control_dropout
        part = uniform(training.seed, "drop span", name, positions) < training.span_dropout
        ends = np.stack([uniform(training.seed, "span", name, side, positions) for side in (0, 1)]) * (frames + 1)
        first, last = np.sort(ends.astype(np.int64), axis=0)
        time_ = np.arange(frames)
        dropped = whole[:, None] | (part[:, None] & (first[:, None] <= time_) & (time_ < last[:, None]))
        rows.masked_fill_(torch.from_numpy(dropped).to(rows.device, non_blocking=True)[:, None], UNCONDITIONED)


def check_share(dataset: Dataset, training: Optimization, ranks: int) -> None:
    """Check that `dataset` has clips, and that `training.batch` is a multiple of the number of `ranks`.

    Raises:
        UserError: it is not so.
    """
    if not len(dataset):
        raise UserError(
            f"{dataset.folder} must have train clips, got none; build it with more, for example CLIPS=400:80"
        )
    if training.batch % ranks:
        raise UserError(
            f"training.batch must be a multiple of the number of ranks, {ranks}, got {training.batch}; change one"
        )


class PrefetchLoader:
    """Iterator over the training batches of one rank, prefetched by a thread.

    Step s (1, 2, ...) uses positions (s - 1) * G to s * G - 1; they are divided into one equal part per rank, in order.
    A batch is valid until the next one is requested. On a GPU copies of it may still be queued then, so its tensors are
    overwritten only after the device has passed a fence that was recorded at that moment. An error in the thread is
    raised where the next batch is requested. The thread ends at the end of a `with` block.

    Args:
        dataset: dataset of the clips.
        training: options of training; `batch` is G, a multiple of `ranks`.
        steps: numbers of the training steps of the batches, in order.
        rank: number of this rank, from 0.
        ranks: number of ranks.
        pinned, resident: as in `BatchBuilder`.
        fence: function that records a fence in the queue of the device and returns it; None if the device works
            synchronously, as a CPU does.

    Raises:
        UserError: the crops of `training` are longer than the clips, or shorter than one frame.
    """

    def __init__(
        self,
        dataset: Dataset,
        training: Optimization,
        steps: Iterator[int],
        rank: int = 0,
        ranks: int = 1,
        pinned: bool = False,
        resident: ResidentClips | None = None,
        fence: Callable[[], Fence] | None = None,
    ) -> None:
        self._waited = 0.0
        self._fence, self._fences = fence, deque[Fence]()
        share = training.batch // ranks
        # promise: same-clips-crops-drop
        within = np.arange(rank * share, (rank + 1) * share)
        # One batch is used by the consumer, DEPTH are queued, one is being made.
        makers = [BatchBuilder(dataset, training, share, pinned, resident) for _ in range(DEPTH + 2)]
        self._given = False
        self._ready: queue.Queue[Batch | BaseException] = queue.Queue(DEPTH)
        self._closing = threading.Event()

        def work() -> None:
            try:
                for number, step in enumerate(steps):
                    # promise: batches-continue-position-whatever
                    positions = (step - 1) * training.batch + within
                    if fence is not None and number >= len(makers):
                        # The fence of the batch that is overwritten next, which the consumer has released.
                        self._fences.popleft().synchronize()
                    if not self._put(makers[number % len(makers)].train(positions)):
                        return
                self._put(StopIteration())
            except BaseException as error:  # handed to the consumer, which raises it
                self._put(error)

        self._thread = threading.Thread(target=work, name="batches", daemon=True)
        self._thread.start()

    def _put(self, item: Batch | BaseException) -> bool:
        while not self._closing.is_set():
            try:
                self._ready.put(item, timeout=0.1)
                return True
            except queue.Full:
                continue
        return False

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Batch:
        start = time.perf_counter()
        if self._fence is not None and self._given:
            self._fences.append(self._fence())
        self._given = True
        item = self._ready.get()
        self._waited += time.perf_counter() - start
        if isinstance(item, BaseException):
            raise item
        return item

    def pop_wait_seconds(self) -> float:
        """Return the seconds that the consumer has waited for batches since the last call, and set them to 0."""
        waited, self._waited = self._waited, 0.0
        return waited

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._closing.set()
        self._thread.join()

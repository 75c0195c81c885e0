"""One shard: render its clips, compute arrays and controls, write records. Pure stages and one writer.

A shard holds the plan's positions [start, stop) less the clips whose audio is at fault. Arrays are computed in chunks
of a constant size cut by position, the last one padded with silence: batches of another size would round differently.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import Field

from data_specs.controls import INSTRUMENTS, VELOCITY, control_arrays
from data_specs.dataset import Feature, clip_features, layout, shard_name
from data_specs.errors import UserError
from data_specs.io.files import atomic_write
from data_specs.records import RecordLayout
from data_specs.representations import Representation, Statistics
from data_specs.spec import Spec, StrictModel
from pipeline.plan.plan import Plan, PlannedClip
from pipeline.rejects import Rejected
from pipeline.render.renderer import RendererProtocol, audio_fault, rms_dbfs


@dataclass(frozen=True)
class ShardTask:
    """Positions [start, stop) of one split's plan, as shard `number` of `shards`."""

    format: str
    split: str
    number: int
    shards: int
    start: int
    stop: int

    @property
    def file(self) -> str:
        """Path of the shard, relative to the dataset's folder."""
        return shard_name(self.format, self.split, self.number, self.shards)


@dataclass(frozen=True)
class ShardSubset:
    """The shards k with k mod `of` = `number`, for several runs that build one dataset at the same time."""

    number: int
    of: int

    @classmethod
    def parse(cls, text: str) -> "ShardSubset":
        """`"2/8"` -> share 2 of 8.

        Raises:
            UserError: not i/n with 0 <= i < n.
        """
        number, slash, of = text.partition("/")
        if not (slash and number.isdecimal() and of.isdecimal() and text.isascii()) or int(number) >= int(of):
            raise UserError(f"SHARDS={text} is not i/n with 0 <= i < n; the first of eight shares is SHARDS=0/8")
        return cls(int(number), int(of))

    def holds(self, task: ShardTask) -> bool:
        """Whether this share builds the shard."""
        return task.number % self.of == self.number

    def __str__(self) -> str:
        return f"{self.number}/{self.of}"


class Fault(StrictModel):
    """A clip left out of its shard because of its audio."""

    id: str
    reason: str


class Receipt(StrictModel):
    """What is known of a finished shard; kept beside it until the dataset is complete, and for growing it."""

    split: str
    number: int
    start: int
    stop: int
    clips: Annotated[int, Field(ge=0)]
    bytes: Annotated[int, Field(ge=0)]
    sha256: str
    machine: str
    levels_dbfs: dict[str, float]  # RMS level by clip id, in the order of the records
    faults: tuple[Fault, ...]
    statistics: dict | None


def shard_tasks(format_name: str, split: str, clips: int, shard_clips: int) -> list[ShardTask]:
    """The shards of a split of `clips` clips; shard k holds positions [k * shard_clips, (k + 1) * shard_clips)."""
    shards = -(-clips // shard_clips)
    # promise: shard-k-holds-positions
    starts = range(0, clips, shard_clips)
    return [
        ShardTask(format_name, split, k, shards, start, min(start + shard_clips, clips))
        for k, start in enumerate(starts)
    ]


class ShardBuilder:
    """What a worker keeps between shards: the plan, the SoundFont and the representation."""

    def __init__(
        self,
        spec: Spec,
        plan: Plan,
        renderer: RendererProtocol,
        stored: Representation,
        machine: str,
        device: str = "cpu",
    ) -> None:
        self.spec = spec
        self.plan = plan
        self.renderer = renderer
        self.stored = stored
        self.machine = machine
        self.device = device

    @cached_property
    def features(self) -> tuple[Feature, ...]:
        """The features of this format's records."""
        return features_of(self.spec, self.stored)

    @cached_property
    def layout(self) -> RecordLayout:
        """How they lie in a record."""
        return layout(self.features)

    def encode(self, audio: np.ndarray, chunk: int) -> np.ndarray:
        """Audio float32 [B, N] -> arrays in the stored dtype, computed as one batch of `chunk`."""
        return encode_chunk(self.stored, audio, chunk, self.features[0], self.device)

    def build(self, task: ShardTask, folder: Path) -> Receipt:
        """Write the shard below `folder`; it appears whole under its name, or not at all."""
        digest, size = hashlib.sha256(), 0
        levels: dict[str, float] = {}
        faults: list[Fault] = []
        statistics: Statistics | None = None
        chunk = self.spec.format(task.format).chunk_clips
        with atomic_write(folder / task.file) as file:
            for start in range(task.start, task.stop, chunk):
                planned = self.plan.clips(task.split, start, min(start + chunk, task.stop))
                audio, found = render_clips(self.renderer, planned, self.spec)
                data = self.encode(audio, chunk)
                for clip, fault, sound, values in zip(planned, found, audio, data, strict=True):
                    if fault is not None:
                        faults.append(Fault(id=clip.id, reason=fault))
                        continue
                    if not self.stored.discrete:
                        sums = self.stored.statistics(values[None])
                        statistics = sums if statistics is None else statistics + sums
                    levels[clip.id] = round(rms_dbfs(sound), 2)
                    record = self.layout.record(record_arrays(clip, values, self.features, self.stored.hop))
                    file.write(record.data)
                    digest.update(record.data)
                    size += len(record)
        return Receipt(
            split=task.split,
            number=task.number,
            start=task.start,
            stop=task.stop,
            clips=len(levels),
            bytes=size,
            sha256=digest.hexdigest(),
            machine=self.machine,
            levels_dbfs=levels,
            faults=tuple(faults),
            statistics=statistics.to_json() if statistics else None,
        )

    def batching_share(self, task: ShardTask) -> float:
        """Share of the first chunk's stored values that differ when its clips are encoded alone."""
        chunk = self.spec.format(task.format).chunk_clips
        planned = self.plan.clips(task.split, task.start, min(task.start + chunk, task.stop))
        audio, _ = render_clips(self.renderer, planned, self.spec)
        together = self.encode(audio, chunk)
        alone = [self.encode(one[None], 1)[0] for one in audio]
        return float(np.mean(together != np.stack(alone)))


def features_of(spec: Spec, stored: Representation) -> tuple[Feature, ...]:
    """The features of a clip of `spec` in the representation `stored`."""
    samples = spec.clip.samples
    dtype = spec.format(stored.name).dtype
    return clip_features(stored.shape(samples), dtype, stored.frames(samples), len(spec.instruments))


def render_clips(
    renderer: RendererProtocol, planned: Sequence[PlannedClip], spec: Spec
) -> tuple[np.ndarray, list[str | None]]:
    """Audio of planned clips, float32 [B, N], and what is wrong with each, None if nothing is.

    A clip at fault is silent: it is left out of the records, not of the batch.
    """
    audio = np.zeros((len(planned), spec.clip.samples), np.float32)
    faults = []
    for row, clip in enumerate(planned):
        try:
            sound = renderer.render(clip.notes, spec.instruments[clip.instrument], spec.clip.samples)
            fault = audio_fault(sound)
        except Rejected as rejected:
            fault = rejected.reason
        if fault is None:
            audio[row] = sound
        faults.append(fault)
    return audio, faults


def encode_chunk(
    stored: Representation, audio: np.ndarray, chunk: int, feature: Feature, device: str = "cpu"
) -> np.ndarray:
    """Audio float32 [B, N] -> arrays [B, *feature.shape] in the stored dtype, computed as one batch of `chunk`."""
    import torch

    # promise: chunks-constant-size-thread
    batch = np.zeros((chunk, 1, audio.shape[1]), np.float32)
    batch[: len(audio), 0] = audio
    encoded = stored.encode(torch.from_numpy(batch).to(device))[: len(audio)]
    return np.ascontiguousarray(encoded.cpu().numpy(), feature.stored_dtype)


def record_arrays(clip: PlannedClip, data: np.ndarray, features: Sequence[Feature], hop: int) -> dict[str, np.ndarray]:
    """What one clip's record holds, as stored: its array, its controls and its id."""
    shapes = {feature.name: feature.shape for feature in features}
    played = control_arrays(clip.notes, clip.instrument, shapes[INSTRUMENTS][0], shapes[VELOCITY][0], hop)
    arrays = {"data": data, **played}
    values = {f.name: np.ascontiguousarray(arrays[f.name], f.stored_dtype) for f in features}
    return {**values, "id": np.frombuffer(clip.id.encode(), np.uint8)}

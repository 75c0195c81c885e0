"""The stages of a shard: render clips, encode them, compute controls, write records.

A shard holds the plan's positions [start, stop) except clips rejected for their audio. Arrays are computed in chunks
of a constant size cut by position in the shard, the last one padded with silence: another batch size rounds
differently.
"""

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, BinaryIO, NamedTuple

import numpy as np
from pydantic import Field, field_validator

from data_specs.cli import decimal
from data_specs.controls import CONTROLS, control_arrays
from data_specs.dataset import Feature, clip_features, folder_name, layout, shard_name
from data_specs.errors import UserError
from data_specs.io.files import atomic_write
from data_specs.representations import Representation, Statistics
from data_specs.spec import Spec
from data_specs.strict import StrictModel
from pipeline.build.machine import current_kind
from pipeline.plan.plan import Plan, PlannedClip
from pipeline.recordings.index import RecordingStore
from pipeline.rejects import Rejected
from pipeline.render.renderer import RendererProtocol, audio_fault, rms_dbfs

UNPLAYABLE = "note that the preset cannot play"


@dataclass(frozen=True)
class ShardTask:
    """Positions [start, stop) of one split's plan, stored as shard `number` of `shards`."""

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

    @property
    def clips(self) -> int:
        """Number of positions."""
        return self.stop - self.start


@dataclass(frozen=True)
class ShardSubset:
    """The shards k with k mod `of` = `number`: several runs build one dataset at the same time."""

    number: int
    of: int

    @classmethod
    def parse(cls, text: str) -> "ShardSubset":
        """Parse `"2/8"`: subset 2 of 8.

        Raises:
            UserError: not i/n with 0 <= i < n.
        """
        number, of = (decimal(part) for part in text.partition("/")[::2])
        if number is None or of is None or number >= of:
            raise UserError(f"SHARDS= must be i/n with 0 <= i < n, got {text!r:.40}; the first of eight is SHARDS=0/8")
        return cls(number, of)

    def holds(self, task: ShardTask) -> bool:
        """Return whether the shard belongs to this subset."""
        return task.number % self.of == self.number

    def __str__(self) -> str:
        return f"{self.number}/{self.of}"


class AudioFault(StrictModel):
    """A clip left out of its shard because of its audio."""

    id: str
    reason: str


class Receipt(StrictModel):
    """Description of a finished shard, kept in `.build/` to resume, finish and grow the dataset."""

    split: str
    number: int
    start: int
    stop: int
    clips: Annotated[int, Field(ge=0)]
    bytes: Annotated[int, Field(ge=0)]
    sha256: str
    machine: str
    levels_dbfs: dict[str, float]  # RMS level by clip id, in the order of the records
    faults: tuple[AudioFault, ...]
    statistics: dict | None

    @field_validator("machine")
    @classmethod
    def _current_kind(cls, machine: str) -> str:
        return current_kind(machine)


Receipts = Mapping[tuple[str, int], Receipt]  # by split and number


def shard_tasks(format_name: str, split: str, clips: int, shard_clips: int) -> list[ShardTask]:
    """Return the shards of a split: shard k holds positions [k * shard_clips, (k + 1) * shard_clips)."""
    shards = -(-clips // shard_clips)
    # promise: shard-k-holds-positions
    starts = range(0, clips, shard_clips)
    return [
        ShardTask(format_name, split, k, shards, start, min(start + shard_clips, clips))
        for k, start in enumerate(starts)
    ]


def joint_tasks(tasks: Iterable[ShardTask], span: int) -> list[tuple[ShardTask, ...]]:
    """Join shards of several formats that lie in the same `span` positions of the plan.

    `span` is a multiple of each format's shard size.
    """
    joint: dict[tuple[str, int], list[ShardTask]] = defaultdict(list)
    for task in tasks:
        joint[task.split, task.start // span].append(task)
    return [tuple(group) for group in joint.values()]


class Rendered(NamedTuple):
    """Rendered clips of one chunk: audio float32 [B, N], silent for rejected clips, and a reason or None per clip."""

    clips: list[PlannedClip]
    audio: np.ndarray
    faults: list[str | None]


class ShardWriter:
    """An open shard that collects its receipt while records are added."""

    def __init__(self, spec: Spec, representation: Representation, file: BinaryIO) -> None:
        self._features = features_of(spec, representation)
        self._instruments = len(spec.instruments)
        self._layout = layout(self._features)
        self._representation = representation
        self._file = file
        self._digest = hashlib.sha256()
        self._levels: dict[str, float] = {}
        self._faults: list[AudioFault] = []
        self._statistics: Statistics | None = None

    def add(self, rendered: Rendered, data: np.ndarray) -> None:
        """Append the clips of a chunk with their arrays [B, *shape], rejected clips excepted."""
        values = np.ascontiguousarray(data, self._features[0].stored_dtype)
        for clip, fault, sound, array in zip(rendered.clips, rendered.faults, rendered.audio, values, strict=True):
            if fault is not None:
                self._faults.append(AudioFault(id=clip.id, reason=fault))
                continue
            if not self._representation.discrete:
                sums = self._representation.statistics(array[None])
                self._statistics = sums if self._statistics is None else self._statistics + sums
            self._levels[clip.id] = round(rms_dbfs(sound), 2)
            arrays = record_arrays(clip, sound, array, self._features, self._representation.hop, self._instruments)
            record = self._layout.record(arrays)
            self._file.write(record.data)
            self._digest.update(record.data)

    def receipt(self, task: ShardTask, machine: str) -> Receipt:
        """Return the description of what was written."""
        return Receipt(
            split=task.split,
            number=task.number,
            start=task.start,
            stop=task.stop,
            clips=len(self._levels),
            bytes=len(self._levels) * self._layout.size,
            sha256=self._digest.hexdigest(),
            machine=machine,
            levels_dbfs=self._levels,
            faults=tuple(self._faults),
            statistics=self._statistics.to_json() if self._statistics else None,
        )


@dataclass(frozen=True)
class ShardBuilder:
    """State that a worker keeps between shards: plan, renderer and the representation of each format."""

    spec: Spec
    plan: Plan
    renderer: RendererProtocol | RecordingStore
    representations: Mapping[str, Representation]
    machine: str
    device: str = "cpu"

    def build(self, tasks: Sequence[ShardTask], out: Path) -> list[tuple[ShardTask, Receipt]]:
        """Write shards below OUT; each appears whole under its name, or not at all.

        Args:
            tasks: shards of one split, of formats with equal chunks. Clips that several of them hold are rendered
                once, and encoded once where one format derives from another.
            out: parent folder of the datasets.
        """
        chunk = self.spec.format(tasks[0].format).chunk_clips
        with ExitStack() as stack:
            writers = {}
            for task in tasks:
                file = stack.enter_context(atomic_write(out / folder_name(task.format) / task.file))
                writers[task] = ShardWriter(self.spec, self.representations[task.format], file)
            spans: dict[tuple[int, int], list[ShardTask]] = defaultdict(list)
            for task in tasks:
                for start in range(task.start, task.stop, chunk):
                    spans[start, min(start + chunk, task.stop)].append(task)
            for (start, stop), of_span in sorted(spans.items()):
                rendered = render_chunk(self.renderer, self.plan.clips(tasks[0].split, start, stop), self.spec)
                formats = {task.format: self.representations[task.format] for task in of_span}
                encoded = encode_chunk(formats, rendered.audio, chunk, self.device)
                for task in of_span:
                    writers[task].add(rendered, encoded[task.format])
            return [(task, writer.receipt(task, self.machine)) for task, writer in writers.items()]


def features_of(spec: Spec, representation: Representation) -> tuple[Feature, ...]:
    """Return the features of a clip of `spec` in a representation."""
    samples = spec.clip.samples
    dtype = spec.format(representation.name).dtype
    frames, instruments = representation.frames(samples), len(spec.instruments)
    return clip_features(representation.shape(samples), dtype, frames, instruments, spec.controls)


def render_chunk(renderer: RendererProtocol | RecordingStore, planned: list[PlannedClip], spec: Spec) -> Rendered:
    """Render planned clips; a rejected clip stays in the batch as silence."""
    audio = np.zeros((len(planned), spec.clip.samples), np.float32)
    faults: list[str | None] = []
    for row, clip in enumerate(planned):
        # promise: unplayable-notes-rejected
        if clip.unplayable:
            faults.append(UNPLAYABLE)
            continue
        try:
            sound = render_clip(renderer, clip, spec)
            fault = audio_fault(sound)
        except Rejected as rejected:
            fault = rejected.reason
        if fault is None:
            audio[row] = sound
        faults.append(fault)
    return Rendered(planned, audio, faults)


def render_clip(renderer: RendererProtocol | RecordingStore, clip: PlannedClip, spec: Spec) -> np.ndarray:
    """Return the audio of one planned clip, float32 [N]."""
    if isinstance(renderer, RecordingStore):
        assert clip.event is not None
        return renderer.read(clip.origin["source_digest"], *clip.event, spec.clip.samples)
    if clip.automation is None:
        return renderer.render(clip.notes, spec.instruments[clip.instrument], spec.clip.samples)
    instruments = [spec.instruments[index] for index in clip.automation.instruments]
    return renderer.render_expressive(clip.notes, instruments, spec.clip.samples, clip.automation)


def encode_chunk(
    formats: Mapping[str, Representation], audio: np.ndarray, chunk: int, device: str = "cpu"
) -> dict[str, np.ndarray]:
    """Encode audio float32 [B, N] into arrays [B, *shape] by format, computed as one batch of `chunk` clips.

    A format that derives from another one of `formats` takes its arrays. The order of `FORMATS` puts sources first.
    """
    import torch

    # promise: chunks-constant-size-thread
    batch = np.zeros((chunk, 1, audio.shape[1]), np.float32)
    batch[: len(audio), 0] = audio
    on_device = torch.from_numpy(batch).to(device)
    encoded: dict[str, torch.Tensor] = {}
    for name, representation in formats.items():
        source = encoded.get(representation.source)
        encoded[name] = representation.encode(on_device) if source is None else representation.derive(source)
    return {name: values[: len(audio)].cpu().numpy() for name, values in encoded.items()}


def record_arrays(
    clip: PlannedClip, sound: np.ndarray, data: np.ndarray, features: Sequence[Feature], hop: int, instruments: int
) -> dict[str, np.ndarray]:
    """Return the arrays of one clip's record as stored: data, controls and id.

    Controls are exact where they can be known from the performance, else measured from the audio `sound` [N].
    """
    controls = {feature.name: feature.shape[-1] for feature in features if feature.name != "data"}
    frames = next(iter(controls.values()))
    recorded = clip.event is not None
    measured = [n for n in controls if CONTROLS[n].origin == "measured" or (recorded and CONTROLS[n].descriptor)]
    exact = tuple(name for name in controls if name not in measured)
    arrays = {"data": data}
    if measured:
        from data_specs.analysis.measured import measured_controls

        arrays |= measured_controls(sound, measured, frames, hop)
    arrays |= control_arrays(clip.notes, clip.instrument, instruments, frames, hop, exact, clip.automation)
    values = {f.name: np.ascontiguousarray(arrays[f.name], f.stored_dtype) for f in features}
    return {**values, "id": np.frombuffer(clip.id.encode(), np.uint8)}

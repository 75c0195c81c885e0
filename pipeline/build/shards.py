"""The stages of a shard: render clips, encode them, compute controls, write records.

A shard holds the clips at consecutive positions of the plan, except those rejected for their audio. Arrays are computed
in chunks of a constant number of clips, the last one padded with silence, because another batch size would round
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

from data_specs.arrays import Arrays, Float32
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
from pipeline.render.isolated_renderer import IsolatedRenderer
from pipeline.render.renderer import Renderer, audio_fault, rms_dbfs

UNPLAYABLE = "note that the preset cannot play"
ClipSource = Renderer | IsolatedRenderer | RecordingStore


@dataclass(frozen=True)
class ShardTask:
    """Shard `number` of `shards` of one format: positions `start` to `stop` (exclusive) of the plan of a split."""

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
        """Number of positions, which is the largest possible number of records."""
        return self.stop - self.start


@dataclass(frozen=True)
class ShardSubset:
    """The shards k with k mod `of` = `number`, as in SHARDS=. Runs may build several subsets at the same time."""

    number: int
    of: int

    @classmethod
    def parse(cls, text: str) -> "ShardSubset":
        """Return the subset written as `i/n`; "2/8" is number 2 of 8, counted from 0.

        Raises:
            UserError: the text is not i/n with 0 <= i < n.
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
    """A clip that was left out of its shard, and the reason."""

    id: str
    reason: str


class Receipt(StrictModel):
    """Description of a finished shard, kept in `.build/` to resume, finish and grow the dataset.

    `clips` is the number of records; it is less than stop - start if there are `faults`.
    """

    split: str
    number: int
    start: int
    stop: int
    clips: Annotated[int, Field(ge=0)]
    bytes: Annotated[int, Field(ge=0)]
    sha256: str
    machine: str
    levels_dbfs: dict[str, float]  # RMS level in dBFS by clip id, in the order of the records
    faults: tuple[AudioFault, ...]
    statistics: dict | None

    @field_validator("machine")
    @classmethod
    def _current_kind(cls, machine: str) -> str:
        return current_kind(machine)


Receipts = Mapping[tuple[str, int], Receipt]  # by split and number


def shard_tasks(format_name: str, split: str, clips: int, shard_clips: int) -> list[ShardTask]:
    """Return the shards of the first `clips` positions of a split: shard k starts at position k * shard_clips."""
    shards = -(-clips // shard_clips)
    # promise: shard-k-holds-positions
    starts = range(0, clips, shard_clips)
    return [
        ShardTask(format_name, split, k, shards, start, min(start + shard_clips, clips))
        for k, start in enumerate(starts)
    ]


def joint_tasks(tasks: Iterable[ShardTask], span: int) -> list[tuple[ShardTask, ...]]:
    """Group shards of several formats that are in the same stretch of `span` positions of the plan.

    Args:
        span: number of positions, a multiple of the shard size of each format.
    """
    joint: dict[tuple[str, int], list[ShardTask]] = defaultdict(list)
    for task in tasks:
        joint[task.split, task.start // span].append(task)
    return [tuple(group) for group in joint.values()]


class Rendered(NamedTuple):
    """The rendered clips of a chunk.

    Attributes:
        clips: the planned clips.
        audio: float32 [B, N], silence for rejected clips.
        faults: for each clip the reason of its rejection, or None.
    """

    clips: list[PlannedClip]
    audio: Float32
    faults: list[str | None]


class ShardWriter:
    """A shard that is being written. It collects what its receipt needs while records are added."""

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
        """Write the records of a chunk, except those of rejected clips; `data` are the encoded clips, [B, *shape]."""
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
        """Return the receipt of the records written so far; `machine` is the kind of machine."""
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
    """Builder of shards, with what a worker keeps from one shard to the next.

    `representations` are by name of the format; `machine` is the kind of machine, `device` a torch device.
    """

    spec: Spec
    plan: Plan
    renderer: ClipSource
    representations: Mapping[str, Representation]
    machine: str
    device: str = "cpu"

    def build(self, tasks: Sequence[ShardTask], out: Path) -> list[tuple[ShardTask, Receipt]]:
        """Write shards, each of which appears under its name when it is complete, and return their receipts.

        Args:
            tasks: shards of one split and of formats with the same chunk size. A clip that is in several of them is
                rendered once, and a format that is derived from another one takes its arrays.
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
    """Return the features (names, types, shapes) of a record of `spec` in a representation."""
    samples = spec.clip.samples
    dtype = spec.format(representation.name).dtype
    frames, instruments = representation.frames(samples), len(spec.instruments)
    return clip_features(representation.shape(samples), dtype, frames, instruments, spec.controls)


def render_chunk(renderer: ClipSource, planned: list[PlannedClip], spec: Spec) -> Rendered:
    """Return the audio of planned clips, with silence for rejected ones."""
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


def render_clip(renderer: ClipSource, clip: PlannedClip, spec: Spec) -> Float32:
    """Return the audio of one planned clip, float32 [N]."""
    if isinstance(renderer, RecordingStore):
        assert clip.event is not None
        return renderer.read(clip.origin["source_digest"], *clip.event, spec.clip.samples)
    if clip.automation is None:
        return renderer.render(clip.notes, spec.instruments[clip.instrument], spec.clip.samples)
    instruments = [spec.instruments[index] for index in clip.automation.instruments]
    return renderer.render_expressive(clip.notes, instruments, spec.clip.samples, clip.automation)


def encode_chunk(formats: Mapping[str, Representation], audio: Float32, chunk: int, device: str = "cpu") -> Arrays:
    """Return audio, float32 [B, N], encoded in each format, [B, *shape], by name of the format.

    Args:
        formats: representations in the order of `FORMATS`. One that is derived from an earlier one takes its arrays.
        audio: at most `chunk` clips.
        chunk: number of clips of the batch, to which the audio is padded with silence.
        device: torch device.
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
    clip: PlannedClip, sound: Float32, data: np.ndarray, features: Sequence[Feature], hop: int, instruments: int
) -> Arrays:
    """Return the arrays of one record by feature: data, controls and id.

    A control is computed from the performance if that decides it, else measured from the audio.

    Args:
        clip: the planned clip.
        sound: its audio [N].
        data: its encoded audio, of the shape of the feature `data`.
        features: features of the record.
        hop: samples from one frame to the next.
        instruments: number of instruments of the spec.
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

"""The stages of a shard: render clips, encode them, compute controls, write records.

A shard holds the clips at consecutive positions of the plan, except those rejected for their notes or audio. Arrays are
computed in chunks of a constant number of clips, the last one padded with silence, because another batch size would
round differently.
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
        """Number of positions. The shard has fewer records if clips are rejected."""
        return self.stop - self.start


@dataclass(frozen=True)
class ShardSubset:
    """The shards whose number k satisfies k mod `of` = `number`, as in SHARDS=. Runs may build several at once."""

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
    """A clip that was left out of its shard: its id, and the reason as in `Rendered.faults`."""

    id: str
    reason: str


class Receipt(StrictModel):
    """Description of a finished shard, kept in `.build/` to resume, finish and grow the dataset.

    `clips` is the number of records, which is stop - start minus the number of `faults`. `bytes` and `sha256` (hex) are
    of the shard's file. `machine` is the kind of machine that built it. `statistics` is the JSON value of the
    `Statistics` of the stored data, None for discrete formats and for a shard without records.
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
    """Return the shards of the first `clips` positions of a split in one format.

    Shard k starts at position k * `shard_clips`. All have `shard_clips` positions, except that the last may have fewer.
    """
    shards = -(-clips // shard_clips)
    # promise: shard-k-holds-positions
    starts = range(0, clips, shard_clips)
    return [
        ShardTask(format_name, split, k, shards, start, min(start + shard_clips, clips))
        for k, start in enumerate(starts)
    ]


def joint_tasks(tasks: Iterable[ShardTask], span: int) -> list[tuple[ShardTask, ...]]:
    """Group shards of several formats that start in the same stretch of `span` positions of one split.

    Stretches start at multiples of `span`. Groups are in the order of their first shard in `tasks`.

    Args:
        tasks: shards to group.
        span: number of positions, a multiple of the shard size of each format.
    """
    joint: dict[tuple[str, int], list[ShardTask]] = defaultdict(list)
    for task in tasks:
        joint[task.split, task.start // span].append(task)
    return [tuple(group) for group in joint.values()]


class Rendered(NamedTuple):
    """The rendered clips of a chunk: B clips of N samples.

    Attributes:
        clips: the B planned clips.
        audio: float32 [B, N] at 24 kHz, silence for rejected clips.
        faults: for each clip the reason of its rejection, or None.
    """

    clips: list[PlannedClip]
    audio: Float32
    faults: list[str | None]


class ShardWriter:
    """Writer of the records of one shard to an open binary file. It collects what the receipt of the shard needs."""

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
        """Write the records of a chunk of B clips to the file, except those of rejected clips.

        The reasons of rejected clips, and the levels (rounded to 0.01 dB) and statistics of the others, are kept for
        the receipt.

        Args:
            rendered: audio of the clips.
            data: the clips in the shard's format, [B, *shape] with the shape of one clip.
        """
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
        """Return the receipt of the records written so far.

        Args:
            task: the shard.
            machine: kind of machine that wrote it, see `machine_kind`.
        """
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
    """Builder of shards, with the objects that a worker reuses for every shard.

    Attributes:
        spec: the spec.
        plan: the plan, from which clips are read.
        renderer: source of the audio of clips.
        representations: representations by name of the format.
        machine: kind of machine, which receipts record.
        device: torch device on which clips are encoded.
    """

    spec: Spec
    plan: Plan
    renderer: ClipSource
    representations: Mapping[str, Representation]
    machine: str
    device: str = "cpu"

    def build(self, tasks: Sequence[ShardTask], out: Path) -> list[tuple[ShardTask, Receipt]]:
        """Write shards below `out` and return each with its receipt, in the order of `tasks`.

        A shard appears under its name when it is complete.

        Args:
            tasks: shards of one split and of formats with the same chunk size. A clip that is in several of them is
                rendered once, and a format that is derived from another of them is computed from the arrays of that
                one.
            out: parent folder of the datasets.

        Raises:
            UserError: a shard cannot be written, or the plan or the stored audio of recordings is damaged.
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
    """Return the features (names, types, shapes) of a record of `spec` in a representation, in stored order."""
    samples = spec.clip.samples
    dtype = spec.format(representation.name).dtype
    frames, instruments = representation.frames(samples), len(spec.instruments)
    return clip_features(representation.shape(samples), dtype, frames, instruments, spec.controls)


def render_chunk(renderer: ClipSource, planned: list[PlannedClip], spec: Spec) -> Rendered:
    """Return the audio of planned clips, with silence and a reason for rejected ones.

    A clip is rejected if its preset cannot play some of its notes (it is then not rendered), if the renderer rejects
    it, or if `audio_fault` finds a fault.
    """
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
    """Return the audio of one planned clip, float32 [N] with N samples of a clip at 24 kHz.

    Raises:
        Rejected: the renderer gives up the clip.
        UserError: the stored audio of a recorded clip is missing or damaged.
    """
    if isinstance(renderer, RecordingStore):
        assert clip.event is not None
        return renderer.read(clip.origin["source_digest"], *clip.event, spec.clip.samples)
    if clip.automation is None:
        return renderer.render(clip.notes, spec.instruments[clip.instrument], spec.clip.samples)
    instruments = [spec.instruments[index] for index in clip.automation.instruments]
    return renderer.render_expressive(clip.notes, instruments, spec.clip.samples, clip.automation)


def encode_chunk(formats: Mapping[str, Representation], audio: Float32, chunk: int, device: str = "cpu") -> Arrays:
    """Return the data of clips in each format by name of the format, numpy arrays [B, *shape].

    Args:
        formats: representations by name, in the order of `FORMATS`. One whose source is an earlier one of them is
            derived from the data of that one; any other encodes the audio.
        audio: float32 [B, N], at most `chunk` clips of N samples.
        chunk: number of clips of the computed batch, to which the audio is padded with silence.
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
    """Return the arrays of one record by feature, in their stored types: data, controls and id (uint8 [16], ASCII).

    A control is measured from the audio if its origin is `measured`, and in recordings wherever it can be measured.
    Else it is computed from the notes and the instrument.

    Args:
        clip: the planned clip.
        sound: its audio, float32 [N] at 24 kHz.
        data: its audio in the dataset's format, of the shape of the feature `data`.
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

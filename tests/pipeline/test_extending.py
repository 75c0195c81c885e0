"""Extensions: another representation, another control. Each is one class and one entry, from notes to samples."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from data_specs.controls import CONTROLS
from data_specs.controls.base import (
    Control,
    Float32,
    FrameNotes,
    Points,
    Value,
    note_points,
    parse_number,
    shortest_decimal,
)
from data_specs.formats import FORMATS, FormatEntry
from data_specs.representations import Representation, representation
from data_specs.spec import Spec
from pipeline.build.folder import BuildFolder
from pipeline.build.job import Job
from pipeline.build.manifest import manifest, write_clips
from pipeline.build.shards import ShardBuilder, shard_tasks
from pipeline.plan.plan import Plan
from pipeline.rejects import Rejects
from pipeline.render.renderer import Renderer
from pipeline.render.soundfont import soundfont_path
from pipeline.tools.validate import validate
from training.cli import main
from training.data.dataset import Dataset
from training.diffusion.continuous import ContinuousParadigm

CONFIG = """
[training]
steps = 1
batch = 4
seconds = 1.0
[logging]
valid_every = 0
listen_every = 0
[network.FORMAT]
kind = "unet"
channels = 4
factors = [2]
skip = 1
[network.FORMAT.controls.global]
"""


class Envelope(Representation):
    """Root mean square of each stretch of 320 samples, [1, T]."""

    name = label = "envelope"
    hop = 320

    def frames(self, samples: int) -> int:
        return samples // self.hop

    def shape(self, samples: int) -> tuple[int, ...]:
        return 1, self.frames(samples)

    def encode(self, audio: Tensor) -> Tensor:
        return audio.unflatten(-1, (-1, self.hop)).square().mean(-1).sqrt()

    def decode(self, stored: Tensor, gradient: bool = False) -> Tensor:
        return stored.repeat_interleave(self.hop, -1)


class Height(Control):
    """MIDI pitch / 127 of the note that plays, 0 in rests."""

    name = "height"

    def from_frames(self, notes: FrameNotes) -> NDArray[Any]:
        return np.where(notes.sounding, notes.pitch / 127, 0)

    def is_invalid(self, arrays: Mapping[str, NDArray[Any]]) -> bool:
        return bool(arrays[self.name][arrays["velocity"] == 0].any())

    def from_notes(self, notes: Sequence[Sequence[int]], instrument: str | None) -> Points:
        return note_points(notes, lambda pitch, velocity: pitch / 127, 0.0)

    def parse(self, value: Any) -> tuple[Value, str]:
        return parse_number(value, "height"), ""

    def to_frame(self, value: Any, instruments: Sequence[str]) -> NDArray[np.float64]:
        return np.array([value])

    def from_frame(self, frame: Float32, sounding: bool, instruments: Sequence[str]) -> Value:
        return shortest_decimal(frame[0], self.name)


def built(spec: Spec, plan: Plan, stored: Representation, out: Path) -> None:
    """A finished dataset, made in this process."""
    spec = Spec.model_validate(spec.model_dump())
    folder, key = BuildFolder(out, stored.name), {**spec.format_key(stored.name), "transform": stored.digest}
    tasks = [
        task
        for split, clips in (("train", 8), ("valid", 3))
        for task in shard_tasks(stored.name, split, clips, spec.format(stored.name).shard_clips)
    ]
    folder.open(key)
    with Renderer(soundfont_path("timgm6mb"), spec.rendering, 24_000) as renderer:
        builder = ShardBuilder(spec, plan, renderer, {stored.name: stored}, "here")
        finished = [receipt for task in tasks for _, receipt in builder.build([task], out)]
    receipts = {(receipt.split, receipt.number): receipt for receipt in finished}
    job = Job(spec, plan, Rejects(), stored, key, folder, tuple(tasks))
    write_clips(job, receipts)
    folder.finish(manifest(job, receipts, Rejects()), job.shapes, tasks)


def trained(out: Path, format_name: str) -> Path:
    """The run of one step on a dataset."""
    config = out / "one.toml"
    config.write_text(CONFIG.replace("FORMAT", format_name))
    arguments = ["--paradigm", "edm", "--format", format_name, "--data", str(out), "--config", str(config)]
    assert main(["train", *arguments, "--run", str(out / "run"), "--device", "cpu"]) == 0
    return out / "run"


def sampled(run: Path, curves: dict[str, Any]) -> list[Path]:
    """WAV files of one sample that follows `curves`."""
    file = run / "drawn.json"
    file.write_text(json.dumps({"version": 1, **curves}))
    settings = ["--seconds", "1", "--sampler-steps", "1", "--device", "cpu", "--out", str(run / "samples")]
    assert main(["sample", "--run", str(run), "--controls", str(file), *settings]) == 0
    return sorted((run / "samples").rglob("*.wav"))


def test_another_representation_is_one_class_and_one_entry(small_spec, small_plan, monkeypatch, tmp_path):
    monkeypatch.setitem(FORMATS, "envelope", FormatEntry(Envelope, seconds=0.01))
    monkeypatch.setattr(ContinuousParadigm, "formats", (*ContinuousParadigm.formats, "envelope"))
    spec = small_spec.model_copy(update={"formats": {"envelope": small_spec.format("audio")}})
    built(spec, small_plan, representation("envelope"), tmp_path)
    assert validate(tmp_path, None) == 0
    stored = Dataset(tmp_path, "train", format_name="envelope")[0]["data"]
    planned = small_plan.clips("train", 0, 1)[0]
    with Renderer(soundfont_path("timgm6mb"), spec.rendering, 24_000) as renderer:
        audio = renderer.render(planned.notes, spec.instruments[planned.instrument], 192_000)
    np.testing.assert_allclose(stored[0], np.sqrt(np.square(audio.reshape(600, 320)).mean(1)), rtol=1e-5)
    assert sampled(trained(tmp_path, "envelope"), {"velocity": 0.5})


def test_another_control_is_one_class_and_one_entry(small_spec, small_plan, monkeypatch, tmp_path):
    monkeypatch.setitem(CONTROLS, "height", Height())
    small_spec = small_spec.model_copy(update={"controls": (*small_spec.controls, "height")})
    built(small_spec, small_plan, representation("encodec", "phaseless"), tmp_path)
    assert validate(tmp_path, None) == 0
    data = Dataset(tmp_path, "train", format_name="encodec")
    clip = data[0]
    assert torch.equal(data.gather(np.arange(1))["height"][0], clip["height"])
    assert torch.equal((clip["height"] * 127 % 12).round() / 11, clip["chroma"])
    run = trained(tmp_path, "encodec")
    assert sampled(run, {"height": [[0, 0.5], [1, 0.4]], "instruments": "violin"})
    assert main(["sample", "--run", str(run), "--controls", f"{tmp_path}:valid:0", "--seconds", "1"]) == 0

"""Extensions: another representation, another control. Each is one class and one entry, from notes to samples."""

import json
from collections.abc import Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from data_specs.arrays import Float32
from data_specs.controls import CONTROLS
from data_specs.controls.base import (
    Control,
    FrameNotes,
    Points,
    Value,
    note_points,
    parse_number,
    shortest_decimal,
)
from data_specs.controls.curve_files import parse_csv, parse_value
from data_specs.errors import UserError
from data_specs.formats import FORMATS, FormatEntry
from data_specs.representations import Representation, representation
from data_specs.spec import Spec
from data_specs.viz.figures import Panel, panels_figure
from pipeline.build.folder import BuildFolder
from pipeline.build.job import Job
from pipeline.build.manifest import manifest, write_clips
from pipeline.build.shards import ShardBuilder, shard_tasks
from pipeline.plan.plan import Plan
from pipeline.rejects import Rejects
from pipeline.render.renderer import Renderer
from pipeline.render.soundfont import soundfont_path
from pipeline.tools.report import report
from pipeline.tools.validate import validate
from training.cli import main
from training.data.dataset import Dataset
from training.diffusion.continuous import ContinuousParadigm
from training.evaluation.adherence import ADHERENCE, Adherence, Calibration, ClipAnalysis, Ratio, analyze, measure
from training.evaluation.embedders.classifier import WEIGHTS, PvtNet
from training.evaluation.evaluate import Options, evaluate
from training.evaluation.tables import adherence_columns
from training.evaluation.targets import ControlTargets, control_targets
from training.model import load_model
from training.runs import shipped_model

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


def sampled(run: Path, curves: dict[str, Any], *options: str) -> list[Path]:
    """WAV files of one sample that follows `curves`."""
    file = run / "drawn.json"
    file.write_text(json.dumps({"version": 1, **curves}))
    settings = ["--seconds", "1", "--sampler-steps", "1", "--device", "cpu", "--out", str(run / "samples")]
    assert main(["sample", "--run", str(run), "--controls", str(file), *settings, *options]) == 0
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


def height_ratios(analysis: ClipAnalysis, number: int, targets: ControlTargets, _: Calibration) -> tuple[Ratio, ...]:
    """Mean absolute error of the tracked height."""
    asked = targets.controls["height"]
    kept = targets.stable & targets.note & analysis.features.voiced[number] & np.isfinite(asked)
    error = np.abs(analysis.features.midi[number] / 127 - asked)[kept]
    return ((float(error.sum()), float(len(error))),)


@pytest.fixture
def heights(small_spec, small_plan, monkeypatch, tmp_path):
    """A folder of an encodec dataset with one more control, `height`."""
    monkeypatch.setitem(CONTROLS, "height", Height())
    monkeypatch.setitem(ADHERENCE, "height", Adherence(("height_error",), height_ratios, frozenset({"height_error"})))
    spec = small_spec.model_copy(update={"controls": (*small_spec.controls, "height")})
    built(spec, small_plan, representation("encodec", "phaseless"), tmp_path)
    return tmp_path


def test_another_control_is_one_class_and_one_entry(heights):
    assert validate(heights, None) == 0
    folder = heights / "PVT-encodec"
    assert "height float32 600" in (folder / "shapes.txt").read_text().splitlines()
    assert json.loads((folder / "dataset.json").read_bytes())["spec"]["controls"][-1] == "height"
    data = Dataset(heights, "train", format_name="encodec")
    clip = data[0]
    assert torch.equal(data.gather(np.arange(1))["height"][0], clip["height"])
    assert torch.equal((clip["height"] * 127 % 12).round() / 11, clip["chroma"])
    assert 'class="lane height"' in report(heights, heights / "report.html", clips=1).read_text(encoding="utf-8")
    run = trained(heights, "encodec")
    assert load_model(run).data.layout.names[-1] == "height"
    assert sampled(run, {"height": [[0, 0.5], [1, 0.4]], "instruments": "violin"}, "--guidance", "height=2")
    assert main(["sample", "--run", str(run), "--controls", f"{heights}:valid:0", "--seconds", "1"]) == 0
    value = {"version": 1, "height": [[0, 0.5], [1, 0.4]]}
    assert parse_csv("time,height\n0,0.5\n1,0.4\n") == parse_value(value)


def test_another_control_is_drawn_measured_and_refused_by_models_without_it(heights, capsys):
    clip = Dataset(heights, "train", format_name="encodec")[0]
    controls = {name: clip[name].numpy() for name in CONTROLS if name in clip}
    transform = representation("encodec", "phaseless")
    audio = transform.decode(clip["data"][None])
    figure = panels_figure([Panel("clip", audio[0, 0].numpy(), controls, 320)], ("piano", "violin", "trumpet"))
    assert "height" in [axis.get_ylabel() for axis in figure.axes]
    analysis = analyze(audio, PvtNet.load(WEIGHTS, "cpu"))
    targets = [control_targets(controls, Fraction(75), analysis.features.frames)]
    (ratios,) = measure(analysis, targets, Calibration.fit(analysis, targets, 3))
    top, bottom = ratios["height_error"]
    assert bottom > 100
    assert top / bottom < 2 / 127  # two semitones: notes of a melody are further apart
    assert "height error ↓" in [column.heading for column in adherence_columns()]
    drawn = heights / "drawn.json"
    drawn.write_text('{"version": 1, "height": 0.5}')
    assert main(["sample", "--controls", str(drawn), "--device", "cpu", "--out", str(heights / "none")]) == 2
    assert "got height; remove it" in capsys.readouterr().err
    assert main(["sample", "--guidance", "height=2", "--controls", "swell", "--device", "cpu"]) == 2
    assert "no control feature 'height'" in capsys.readouterr().err
    with pytest.raises(UserError, match="no control feature 'height'"):
        evaluate([shipped_model()], Options(data=heights, unconditioned=("height",)))

"""Datasets of SoundFonts that cannot play every note: what is moved, rejected, refused and found afterwards."""

import json
from pathlib import Path

import numpy as np
import pytest

from data_specs.dataset import load_info
from data_specs.errors import UserError
from pipeline.build import build as build_module
from pipeline.build import presets
from pipeline.build.build import build
from pipeline.build.job import Request
from pipeline.build.shards import UNPLAYABLE
from pipeline.cluster.workers import RemoteWorkers
from pipeline.tools.report_data import finished_datasets, notes_of
from pipeline.tools.validate import validate
from tests.pipeline.made_soundfont import Preset, write_soundfont
from training import Dataset

RANGES = (Preset(0), Preset(40, keys=(55, 103)), Preset(56, keys=(54, 84)))


@pytest.fixture
def build_with(dask_cluster, small_spec, midi_folder, tmp_path):
    """Build audio of the small spec with a SoundFont of `presets` below `tmp_path`; return OUT."""

    def run(*made: Preset, **changes) -> Path:
        soundfont = write_soundfont(tmp_path / "made.sf2", *made)
        spec = small_spec.model_copy(
            update={
                "source": small_spec.source.model_copy(update={"midi": str(midi_folder)}),
                "rendering": small_spec.rendering.model_copy(update={"soundfont": str(soundfont)}),
            }
        )
        out = tmp_path / "out"
        options = {"dry_run": False, "force": False, "accept_fewer": False, "accept_device": False, "subset": None}
        workers = RemoteWorkers(dask_cluster.address)
        assert build(Request(spec, ("audio",), out, out / "index", workers, **{**options, **changes})) == 0
        return out

    return run


@pytest.fixture
def without_check(monkeypatch):
    """Builds as before presets were checked: every note counts as playable."""
    monkeypatch.setattr(build_module, "playable_notes", lambda spec, *where: np.ones((3, 128, 128), bool))


def silent_notes(folder: Path) -> int:
    """Notes of at least 100 ms whose first 100 ms hold nothing above -90 dBFS, over all clips."""
    count = 0
    for clip in Dataset(folder, split="train"):
        velocity, chroma = clip["velocity"].numpy(), clip["chroma"].numpy()
        audio = clip["data"].numpy().reshape(-1)
        starts = np.flatnonzero((velocity[7:-8] > 0) & (np.diff(velocity * 12 + chroma)[6:-8] != 0)) + 7
        for start in starts:
            if (velocity[start : start + 8] == velocity[start]).all():
                count += np.abs(audio[start * 320 : start * 320 + 2400]).max() < 10 ** (-90 / 20)
    return count


def test_notes_outside_a_preset_move_by_octaves_and_every_note_sounds(build_with, capsys):
    out = build_with(*RANGES)
    said = capsys.readouterr().out
    assert "violin (program 40) of made.sf2 cannot play the MIDI pitches 48-54" in said
    info = load_info(out / "PVT-audio")[0]
    assert info.splits["train"].clips == 10
    assert set(info.format_key["presets"]) == {"violin", "trumpet"}
    assert silent_notes(out / "PVT-audio") == 0
    assert validate(out, None) == 0
    notes = notes_of(finished_datasets(out)[0])
    assert notes.exact
    assert notes.pitch.min() >= 48


def test_a_check_is_kept_in_the_index_and_a_full_range_leaves_the_key_alone(build_with, capsys, monkeypatch):
    monkeypatch.setattr(presets, "_checks", {})
    out = build_with(Preset(0), Preset(40), Preset(56))
    assert "checked range and tuning of piano, violin, trumpet" in capsys.readouterr().out
    assert "presets" not in load_info(out / "PVT-audio")[0].format_key
    monkeypatch.setattr(presets, "check_preset", None)
    monkeypatch.setattr(presets, "_checks", {})  # as in another process
    build_with(Preset(0), Preset(40), Preset(56))
    assert "checked" not in capsys.readouterr().out


def test_clips_with_a_missing_velocity_layer_are_rejected_under_a_reason(build_with):
    layered = (Preset(0), Preset(40, velocities=(0, 20)), Preset(56))
    with pytest.raises(UserError, match="faulty audio"):
        build_with(*layered)
    out = build_with(*layered, accept_fewer=True)
    assert load_info(out / "PVT-audio")[0].rejects[f"audio: {UNPLAYABLE}"] > 0
    assert silent_notes(out / "PVT-audio") == 0
    assert validate(out, None) == 0


@pytest.mark.parametrize("tune", [-200, 1200])
def test_a_detuned_preset_is_refused_before_anything_is_built(build_with, tmp_path, tune):
    with pytest.raises(UserError, match=rf"violin \(program 40, bank 0\) of made.sf2 must be tuned.*got \{tune:+d}"):
        build_with(Preset(0), Preset(40, tune=tune), Preset(56))
    assert not (tmp_path / "out" / "PVT-audio").exists()


@pytest.mark.parametrize(
    ("made", "by_plan", "by_audio"),
    [
        (RANGES, "clip with notes that the preset cannot play", "note without sound"),
        ([Preset(p, tune=-200) for p in (0, 40, 56)], "unusable preset", "instrument out of tune"),
    ],
)
def test_validation_finds_silent_and_detuned_notes_of_older_datasets(
    build_with, without_check, capsys, made, by_plan, by_audio
):
    out = build_with(*made)
    capsys.readouterr()
    assert validate(out, None) == 1
    found = capsys.readouterr().out
    assert by_plan in found
    assert by_audio in found
    next((out / "index").glob("plan-*/plan.json")).unlink()  # without the plan, from the audio alone
    assert validate(out, None) == 1
    found = capsys.readouterr().out
    assert by_plan not in found
    assert by_audio in found
    assert json.loads((out / "PVT-audio" / "dataset.json").read_bytes())["splits"]

"""Benchmark of drawn curves: frozen files, targets, intervals, entries from WAV files."""

import json

import numpy as np
import pytest
import soundfile

from bench.curve_files import EACH, FAMILIES, curve_file
from data_specs.controls.curve_files import read_curves
from data_specs.errors import UserError
from training.evaluation.curve_benchmark import (
    SAMPLES,
    bootstrap,
    curve_paths,
    curve_targets,
    read_entry,
    write_benchmark,
)

INSTRUMENTS = ("piano", "violin", "trumpet")


def test_the_committed_files_are_those_of_the_script():
    found = {path.stem: json.loads(path.read_text()) for path in curve_paths()}
    assert found == {f"{f}-{n:02d}": curve_file(f, n) for f in FAMILIES for n in range(EACH)}
    assert len(found) == 120


@pytest.mark.parametrize(
    "path", [path for path in curve_paths() if path.stem.endswith(("-00", "-07"))], ids=lambda p: p.stem
)
def test_every_family_has_notes_pitches_and_a_rest(path):
    targets = curve_targets(read_curves(path), INSTRUMENTS)
    assert targets.note.mean() > 0.1
    assert targets.rest[-1]
    pitch = targets.pitch[targets.note]
    assert 47.9 <= pitch.min() <= pitch.max() <= 72.1
    assert np.all((np.round(pitch) % 12 == targets.pitch_class[targets.note]) | (np.abs(pitch % 1 - 0.5) < 0.3))


def test_octaves_are_counted():
    velocity = [[0, 0.5], [3, None]]
    curves = [{"velocity": velocity, "pitch": [[0, pitch], [3, "rest"]], "instruments": "violin"} for pitch in (57, 69)]
    from data_specs.controls.curve_files import parse_value

    low, high = (curve_targets(parse_value({"version": 1, **one}), INSTRUMENTS) for one in curves)
    assert np.array_equal(low.pitch_class, high.pitch_class)
    assert np.nanmean(high.pitch) - np.nanmean(low.pitch) == pytest.approx(12)


def test_an_interval_narrows_with_the_number_of_clips():
    def width(clips):
        rng = np.random.default_rng(0)
        score = bootstrap([{"chroma": (float(rng.integers(0, 11)), 10.0)} for _ in range(clips)], 0)["chroma"]
        assert score.low <= score.value <= score.high
        return score.high - score.low

    assert width(400) == pytest.approx(width(100) / 2, rel=0.3)


def test_an_undefined_measure_has_no_score():
    assert bootstrap([{"chroma": (0.0, 0.0)}], 0) == {}


def test_a_folder_of_wav_files_is_an_entry(tmp_path):
    curves = {path.stem: read_curves(path) for path in curve_paths()[:2]}
    for number, name in enumerate(curves):
        soundfile.write(tmp_path / f"{name}.wav", np.full(SAMPLES - 10, 0.1 * (number + 1)), 24_000, "FLOAT")
    audio = read_entry(tmp_path, curves, "cpu")
    assert audio.shape == (2, 1, SAMPLES)
    assert audio[:, 0, 0].tolist() == pytest.approx([0.1, 0.2])
    assert float(audio[..., -10:].abs().max()) == 0
    (tmp_path / f"{list(curves)[1]}.wav").unlink()
    with pytest.raises(UserError, match=r"each of the 2 curve files of .*, lacks 1: add arches-01\.wav$"):
        read_entry(tmp_path, curves, "cpu")


def test_a_wav_file_of_another_rate_is_refused(tmp_path):
    curves = {path.stem: read_curves(path) for path in curve_paths()[:1]}
    soundfile.write(tmp_path / f"{next(iter(curves))}.wav", np.zeros(100), 44_100)
    with pytest.raises(UserError, match="sample rate of 24000 Hz, got 44100"):
        read_entry(tmp_path, curves, "cpu")


def test_the_table_has_a_line_for_each_measure(tmp_path):
    rows = [{"entry": "one", "clips": 2, "scores": {"chroma": {"value": 0.5, "low": 0.4, "high": 0.6}}}]
    text = write_benchmark({"rows": rows, "notes": ["a note"]}, tmp_path)
    assert text.endswith("\n\na note\n")
    assert "| chroma | 0.500 [0.400, 0.600] |" in text
    assert json.loads((tmp_path / "curves.json").read_text())["rows"] == rows

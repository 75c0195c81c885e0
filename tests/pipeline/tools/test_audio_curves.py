"""The command `controls` on a recording."""

import numpy as np
import pytest
import soundfile

from data_specs.controls.curve_files import read_curves
from pipeline.cli import main


@pytest.fixture
def recording(tmp_path):
    time = np.arange(2 * 44_100) / 44_100
    soundfile.write(tmp_path / "voice.flac", 0.3 * np.sin(2 * np.pi * 330 * time), 44_100)
    return tmp_path / "voice.flac"


def test_a_recording_becomes_a_curve_file_beside_it(recording, capsys):
    assert main(["controls", str(recording), "--instrument", "violin"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == str(recording.with_suffix(".json"))
    curves = read_curves(recording.with_suffix(".json"))
    assert set(curves.curves) == {"velocity", "chroma", "instruments"}
    chroma = curves.arrays(("violin",), 48_000, 150, 320)["chroma"]
    assert chroma[75] == pytest.approx(4 / 11)  # E


def test_the_spec_chooses_the_controls(recording, tmp_path):
    out = tmp_path / "out.json"
    assert main(["controls", str(recording), "--out", str(out), "--spec", "expressive", "--notes"]) == 0
    assert {"pitch", "brightness"} <= set(read_curves(out).curves)


def test_bad_input_is_one_sentence(recording, capsys):
    assert main(["controls", str(recording), "--sharpness", "2"]) == 2
    assert capsys.readouterr().err == "error: --sharpness must be in 0..1, got 2\n"
    assert main(["controls", str(recording), "--tracker", "crepe"]) == 2
    assert capsys.readouterr().err == "error: --tracker must be yin or swift-f0, got crepe\n"
    recording.write_bytes(b"fLaC and nothing else")
    assert main(["controls", str(recording)]) == 2
    assert "voice.flac cannot be read: not audio" in capsys.readouterr().err

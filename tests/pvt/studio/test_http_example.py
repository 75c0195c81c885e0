"""`examples/studio_http.py` against a running studio: a WAV file, or one sentence."""

import subprocess
import sys

import pytest
import soundfile

from tests.pvt.studio.conftest import ROOT, running_studio

SCRIPT = ROOT / "examples" / "studio_http.py"


@pytest.fixture(scope="module")
def address():
    with running_studio() as (_, found):
        yield found


def send(address, curves, out):
    command = [sys.executable, SCRIPT, curves, out, "--address", address, "--seconds", "2", "--steps", "2"]
    return subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=120)


def test_the_example_writes_a_clip_of_the_length_asked_for_or_the_reason(address, tmp_path):
    (tmp_path / "short.json").write_text('{"version": 1, "velocity": [[0, 0.3], [1, 0.9]], "instruments": "violin"}')
    done = send(address, tmp_path / "short.json", tmp_path / "take.wav")
    assert done.returncode == 0, done.stderr
    info = soundfile.info(tmp_path / "take.wav")
    assert (info.samplerate, info.duration) == (24_000, 2)
    (tmp_path / "loud.json").write_text('{"version": 1, "velocity": [[0, 3]]}')
    refused = send(address, tmp_path / "loud.json", tmp_path / "none.wav")
    assert refused.returncode == 1
    assert "velocity" in refused.stderr
    assert "Traceback" not in refused.stderr
    assert not (tmp_path / "none.wav").exists()


def test_the_example_says_how_to_start_a_studio(tmp_path):
    (tmp_path / "a.json").write_text("{}")
    done = send("http://127.0.0.1:1/", tmp_path / "a.json", tmp_path / "take.wav")
    assert done.returncode == 1
    assert "make studio" in done.stderr
    assert "Traceback" not in done.stderr

"""Spans generated anew: everything beyond the crossfades equals the input's samples."""

import numpy as np
import pytest
import soundfile

from data_specs.errors import UserError
from training.cli import main
from training.sampling.redraw import read_take, write_take

RATE = 24_000


def wav(path, seconds=1.0, subtype="PCM_16", comment="gain +6.00 dB", rate=RATE, channels=1):
    rng = np.random.default_rng(0)
    samples = rng.integers(-(2**31), 2**31, (round(seconds * rate), channels), dtype=np.int64).astype(np.int32)
    with soundfile.SoundFile(path, "w", rate, channels, subtype, format="WAV") as file:
        file.comment = comment
        file.write(samples)
    return soundfile.read(path, dtype="int32")[0]


@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24"])
def test_samples_beyond_the_crossfades_are_those_of_the_file(tmp_path, subtype):
    before = wav(tmp_path / "in.wav", subtype=subtype)
    take = read_take(tmp_path / "in.wav", "0.4:0.6", RATE)
    assert take.gain == pytest.approx(10 ** (6 / 20))
    np.testing.assert_allclose(take.audio, before / 2**31 / take.gain, atol=1e-7)
    generated = np.full(RATE, 0.1, np.float32)
    mixed = write_take(tmp_path / "out.wav", take, generated, RATE)
    after = soundfile.read(tmp_path / "out.wav", dtype="int32")[0]
    fade = round(0.05 * RATE)
    start, stop = round(0.4 * RATE), round(0.6 * RATE)
    np.testing.assert_array_equal(after[: start - fade + 1], before[: start - fade + 1])
    np.testing.assert_array_equal(after[stop + fade :], before[stop + fade :])
    np.testing.assert_allclose(after[start:stop] / 2**31, 0.1 * take.gain, atol=2**-15)
    np.testing.assert_allclose(mixed[start:stop], 0.1, atol=1e-6)
    with soundfile.SoundFile(tmp_path / "out.wav") as file:
        assert (file.subtype, file.comment) == (subtype, "gain +6.00 dB")


@pytest.mark.parametrize(
    ("span", "sentence"),
    [
        (None, "SPAN= must be start:stop"),
        ("3", "SPAN= must be start:stop"),
        ("0.5:0.2", "SPAN= must be within the 1 s"),
        ("0:9", "SPAN= must be within the 1 s"),
        ("nan:1", "SPAN= must be within"),
    ],
)
def test_bad_spans_are_one_sentence(tmp_path, span, sentence):
    wav(tmp_path / "in.wav")
    with pytest.raises(UserError, match=sentence):
        read_take(tmp_path / "in.wav", span, RATE)


@pytest.mark.parametrize("change", [{"rate": 48_000}, {"channels": 2}, {"subtype": "PCM_U8"}])
def test_files_that_cannot_be_kept_exactly_are_refused(tmp_path, change):
    wav(tmp_path / "in.wav", **change)
    with pytest.raises(UserError, match="KEEP= must be a mono WAV file of 24000 Hz"):
        read_take(tmp_path / "in.wav", "0:1", RATE)
    with pytest.raises(UserError, match="KEEP= must be a WAV file"):
        read_take(tmp_path / "none.wav", "0:1", RATE)


def test_sample_generates_a_span_of_a_take_anew(tmp_path):
    options = ["--controls", "climb", "--clips", "1", "--sampler-steps", "3"]
    assert main(["sample", *options, "--out", str(tmp_path / "a")]) == 0
    take = tmp_path / "a" / "climb" / "0-00.wav"
    again = [*options, "--seed", "1", "--keep", str(take), "--span", "3:5", "--out", str(tmp_path / "b")]
    assert main(["sample", *again]) == 0
    before, after = (soundfile.read(path, dtype="int16")[0] for path in (take, tmp_path / "b" / "climb" / "1-00.wav"))
    kept = np.r_[0 : round(2.95 * RATE), round(5.05 * RATE) : len(before)]
    np.testing.assert_array_equal(before[kept], after[kept])
    assert np.abs(before.astype(int) - after)[3 * RATE : 5 * RATE].max() > 100


def test_span_without_keep_is_refused(capsys):
    assert main(["sample", "--span", "1:2"]) == 2
    assert "--span must be given with --keep" in capsys.readouterr().err

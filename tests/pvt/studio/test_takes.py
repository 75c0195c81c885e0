"""Splicing of redrawn spans and WAV files."""

import io

import numpy as np
import pytest
import soundfile

from pvt.studio.engine import Engine, sample_example
from pvt.studio.example import stored_example
from pvt.studio.takes import wav_bytes
from training.sampling.redraw import splice

RATE, FADE = 24_000, 1200


def test_samples_beyond_the_crossfade_are_unchanged():
    rng = np.random.default_rng(0)
    original, generated = rng.standard_normal((2, 3 * RATE)).astype(np.float32)
    mixed = splice(original, generated, RATE, 2 * RATE, FADE)
    np.testing.assert_array_equal(mixed[: RATE - FADE], original[: RATE - FADE])
    np.testing.assert_array_equal(mixed[2 * RATE + FADE :], original[2 * RATE + FADE :])
    np.testing.assert_array_equal(mixed[RATE : 2 * RATE], generated[RATE : 2 * RATE])
    middle = RATE - FADE // 2
    assert mixed[middle] == pytest.approx((original[middle] + generated[middle]) / 2, abs=1e-6)


def test_a_span_at_the_edges_of_the_take_has_no_crossfade_there():
    original, generated = np.zeros(RATE, np.float32), np.ones(RATE, np.float32)
    np.testing.assert_array_equal(splice(original, generated, 0, RATE, FADE), generated)


@pytest.mark.parametrize(("bits", "step"), [(16, 2**-15), (24, 2**-23)])
def test_wav_files_hold_the_audio(bits, step):
    audio = np.sin(np.arange(RATE) / 20).astype(np.float32)
    read, rate = soundfile.read(io.BytesIO(wav_bytes(audio, RATE, bits, RATE)))
    assert rate == RATE
    np.testing.assert_allclose(read, audio, atol=2 * step)


def test_resampling_keeps_a_tone():
    audio = np.sin(2 * np.pi * 440 * np.arange(RATE) / RATE).astype(np.float32)
    read, rate = soundfile.read(io.BytesIO(wav_bytes(audio, RATE, 24, 48_000)))
    assert (rate, len(read)) == (48_000, 2 * RATE)
    expected = np.sin(2 * np.pi * 440 * np.arange(2 * RATE) / 48_000)
    np.testing.assert_allclose(read[2000:-2000], expected[2000:-2000], atol=1e-4)


def test_the_stored_example_is_what_the_shipped_model_generates():
    engine = Engine([], "cpu", "float32")
    request, entry = engine.example(), engine.entry("")
    stored = stored_example(entry.digest, request, entry.steps)
    assert stored is not None, "the shipped model has changed; run python -m pvt.studio.write_example"
    assert np.abs(stored - sample_example(engine)).max() < 2e-3
    assert stored_example(entry.digest, request.model_copy(update={"seed": 1}), entry.steps) is None

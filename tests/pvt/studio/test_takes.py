"""Splicing of redrawn spans and WAV files."""

import io
import json
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile

from data_specs.errors import UserError
from pvt.studio.engine import Engine, sample_example
from pvt.studio.example import stored_example
from pvt.studio.requests import Generation, parse_recipe
from pvt.studio.takes import TakeStore, wav_bytes
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


def test_the_stored_example_is_what_the_default_model_generates():
    engine = Engine([], "cpu", "float32")
    request, entry = engine.example(), engine.entry("")
    stored = stored_example(entry.digest, request, entry.steps)
    assert stored is not None, "the default model has changed; run python -m pvt.studio.write_example"
    assert np.abs(stored - sample_example(engine)).max() < 2e-3
    assert stored_example(entry.digest, request.model_copy(update={"seed": 1}), entry.steps) is None
    assert stored_example(entry.digest, request, entry.steps - 1) is None
    assert stored_example(entry.digest, request.model_copy(update={"steps": entry.steps}), entry.steps) is not None


def test_weights_by_control_are_refused_before_a_job_of_a_model_of_one_weight():
    engine = Engine([], "cpu", "float32")
    request = engine.example().model_copy(update={"guidance": {"velocity": 2.0}})
    engine.check(request.model_copy(update={"model": "edm"}))
    with pytest.raises(
        UserError, match=r"one number from 1 to 3, as in its training, got velocity=2; .* the model `edm`"
    ):
        engine.check(request)


def test_the_recipe_of_a_take_redrawn_twice_repeats_it():
    engine = Engine([], "cpu", "float32")
    reported = []
    job = SimpleNamespace(check=lambda: None, report=lambda kind, **values: reported.append(values))
    curves = {"version": 1, "velocity": [[0, 0.4], [2, 0.8]], "pitch": [[0, 60]]}

    def generated(seed, span=None, variants=1):
        request = Generation(curves=curves, seconds=2.0, seed=seed, steps=2, draft=False, span=span, variants=variants)
        engine.generate(request, job)
        return reported[-1]["takes"][-1]["id"]

    first = generated(1, variants=2)
    second = generated(2, {"take": first, "start": 0.5, "stop": 1.0})
    take = engine.takes.get(generated(3, {"take": second, "start": 1.2, "stop": 1.6}))
    engine.takes = TakeStore()  # a file is read later, without the takes before
    recipe = parse_recipe(json.dumps(take.recipe).encode())
    engine.check_recipe(recipe)
    engine.repeat(recipe, job)
    repeated = engine.takes.get(reported[-1]["takes"][0]["id"])
    np.testing.assert_allclose(repeated.audio, take.audio, atol=1e-5)
    assert np.abs(take.audio).max() > 0.01


def test_a_recipe_must_be_complete_and_of_a_model_of_the_menu():
    engine = Engine([], "cpu", "float32")
    model = {"name": "few-steps", "sha256": engine.entry("").digest}
    recipe = {"pvt_sound": 1, "model": model, "curves": {"version": 1, "velocity": [[0, 0.4]]}, "steps": 2}
    engine.check_recipe(parse_recipe(json.dumps(recipe).encode()))
    span = {"take": "0", "start": 0.5, "stop": 1.0}
    with pytest.raises(UserError, match="must hold the recipe of the take before"):
        parse_recipe(json.dumps({**recipe, "span": span}).encode())
    other = {**recipe, "span": span, "kept": {**recipe, "model": {"name": "old", "sha256": "0" * 64}}}
    with pytest.raises(UserError, match="needs the model 'old'; open the studio with it"):
        engine.check_recipe(parse_recipe(json.dumps(other).encode()))

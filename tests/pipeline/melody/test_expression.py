"""Expression of clips: shares, bounds, the level law and the description that clips.parquet holds."""

import json
import math
from typing import Any

import numpy as np
import pytest

from data_specs.controls.automation import Automation
from data_specs.spec import ClipSpec, ExpressionSpec, load_spec
from pipeline.melody.expression import automate, draw_expression, separate_repeats

SPEC = load_spec("expressive")
CLIP, INSTRUMENTS = SPEC.clip, SPEC.instruments
assert SPEC.expression is not None
EXPRESSION: ExpressionSpec = SPEC.expression
SECONDS = np.arange(3000) * 64 / 24_000


def melody(seed: int, count: int = 16) -> np.ndarray:
    """Legato notes of half a second with a rest after every fourth, in order, no pitch twice in a row."""
    rng = np.random.default_rng(seed)
    pitch = 48 + np.cumsum(rng.integers(1, 12, count)) % 25
    pitch[1:][pitch[1:] == pitch[:-1]] += 1
    onset = np.arange(count) * 12_032
    length = np.where(np.arange(count) % 4 == 3, 6016, 12_032)
    return np.stack([onset, np.minimum(onset + length, CLIP.samples), pitch, rng.integers(20, 128, count)], 1).astype(
        np.int32
    )


def express(seed: int, spec: ExpressionSpec = EXPRESSION) -> tuple[dict[str, Any], np.ndarray, np.ndarray, Automation]:
    notes = melody(seed)
    drawn = draw_expression(spec, 0, f"{seed:016x}", notes, seed % 3, 3, CLIP)
    return drawn, notes, *automate(spec, drawn, notes, seed % 3, INSTRUMENTS, CLIP)


def test_a_clip_is_a_function_of_seed_and_id_and_its_description_is_enough() -> None:
    drawn, notes, struck, automation = express(4)
    described = json.loads(json.dumps(drawn))
    again, same = automate(EXPRESSION, described, notes, 4 % 3, INSTRUMENTS, CLIP)
    assert np.array_equal(again, struck)
    assert all(np.array_equal(getattr(same, name), getattr(automation, name)) for name in vars(automation))
    assert drawn == express(4)[0]
    assert drawn != draw_expression(EXPRESSION, 1, f"{4:016x}", notes, 1, 3, CLIP)


def test_notes_are_struck_at_the_level_of_their_onset() -> None:
    for seed in range(50):
        _, notes, struck, automation = express(seed)
        at_onset = automation.level[notes[:, 0] // 64]
        assert np.array_equal(struck[:, 3], np.floor(127 * at_onset + 0.5))
        assert np.array_equal(struck[:, :3], notes[:, :3])
        assert automation.level.min() >= 1 / 127
        assert automation.level.max() <= 1


def test_the_level_is_the_song_velocity_times_the_curve() -> None:
    spec = EXPRESSION.model_copy(update={"velocity": EXPRESSION.velocity.model_copy(update={"families": ("sine",)})})
    drawn, notes, _, automation = express(7, spec)
    hz, phase = drawn["velocity"]["hz"], drawn["velocity"]["phase"]
    for onset, offset, _, velocity in notes.tolist():
        span = slice(onset // 64, offset // 64)
        curve = 1 - 0.8 * (1 + np.sin(2 * math.pi * hz * SECONDS[span] + phase)) / 2
        np.testing.assert_allclose(automation.level[span], np.maximum(velocity / 127 * curve, 1 / 127), atol=1e-9)


def test_shares_are_those_of_the_spec() -> None:
    clips = [express(seed) for seed in range(400)]
    shaded = np.mean([drawn["brightness"] is not None for drawn, *_ in clips])
    relayed = np.mean([bool(drawn["relay"]) for drawn, *_ in clips])
    legato = sum(int((notes[1:, 0] == notes[:-1, 1]).sum()) for _, notes, *_ in clips)
    glides = sum(len(drawn["glides"]) for drawn, *_ in clips)
    assert shaded == pytest.approx(0.6, abs=0.07)
    assert relayed == pytest.approx(0.15, abs=0.05)
    assert glides / legato == pytest.approx(0.2, abs=0.03)


def test_glides_start_at_the_pitch_before_and_reach_their_own() -> None:
    found = 0
    for seed in range(100):
        drawn, notes, _, automation = express(seed)
        vibrating = {note for note, *_ in drawn["vibratos"]}
        for note, semitones, seconds in drawn["glides"]:
            first, last = notes[note, 0] // 64, notes[note, 1] // 64
            assert notes[note, 2] + semitones == notes[note - 1, 2]
            assert automation.bend[first] == pytest.approx(semitones)
            assert 0 < seconds <= 0.2
            if note not in vibrating:
                end = first + math.ceil(seconds / (64 / 24_000))
                assert np.array_equal(automation.bend[end:last], np.zeros(last - end))
                found += 1
    assert found > 50


def test_vibrato_has_its_depth_and_starts_after_the_delay() -> None:
    found = 0
    for seed in range(100):
        drawn, notes, _, automation = express(seed)
        for note, hz, cents, start in drawn["vibratos"]:
            assert 4 <= hz <= 7
            assert 10 <= cents <= 60
            assert start >= 0.2
            first, last = notes[note, 0] // 64, notes[note, 1] // 64
            if start == 0.2 and note not in {glide for glide, *_ in drawn["glides"]}:
                quiet = first + int(0.2 / (64 / 24_000))
                assert not automation.bend[first:quiet].any()
                assert 100 * np.abs(automation.bend[quiet:last]).max() == pytest.approx(cents, rel=0.05)
                found += 1
    assert found > 20


def test_relays_change_the_instrument_at_notes_and_the_cutoff_depth_with_it() -> None:
    relayed = [(seed, express(seed)) for seed in range(200) if express(seed)[0]["relay"]]
    assert relayed
    depths = np.array([EXPRESSION.brightness.depth_cents[i.name] for i in INSTRUMENTS], float)
    for seed, (drawn, notes, _, automation) in relayed:
        assert automation.instruments[0] == seed % 3
        changes = np.flatnonzero(np.diff(automation.instruments)) + 1
        assert changes.tolist() == [note for note, _ in drawn["relay"]]
        for note, (onset, offset, *_) in enumerate(notes.tolist()):
            span = slice(onset // 64, offset // 64)
            expected = -depths[automation.instruments[note]] * (1 - automation.brightness[span])
            np.testing.assert_allclose(automation.cutoff[span], expected)


def test_a_clip_without_brightness_stays_open() -> None:
    still = next(express(seed) for seed in range(50) if express(seed)[0]["brightness"] is None)
    assert np.array_equal(still[3].brightness, np.ones(3000))
    assert not still[3].cutoff.any()


@pytest.mark.parametrize(
    ("notes", "expected"),
    [
        ([[0, 6400, 60, 9], [6400, 12_800, 60, 8]], [[0, 5760, 60, 9], [6400, 12_800, 60, 8]]),
        ([[0, 6400, 60, 9], [6400, 12_800, 62, 8]], [[0, 6400, 60, 9], [6400, 12_800, 62, 8]]),
        ([[0, 6400, 60, 9], [7040, 12_800, 60, 8]], [[0, 6400, 60, 9], [7040, 12_800, 60, 8]]),
        ([[0, 1216, 60, 9], [1216, 12_800, 60, 8]], [[0, 12_800, 60, 9]]),  # too short to give up the rest
        ([[0, 1280, 60, 9], [1280, 12_800, 60, 8]], [[0, 640, 60, 9], [1280, 12_800, 60, 8]]),
    ],
)
def test_repeats_are_separated_by_a_rest_of_two_frames(notes: list[list[int]], expected: list[list[int]]) -> None:
    assert separate_repeats(np.array(notes, np.int32), ClipSpec()).tolist() == expected

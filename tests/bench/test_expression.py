"""Measures of expression on one clip whose curves are known."""

import numpy as np
import pytest

from bench.expression import Found, Player, measure_brightness, measure_level, measure_times
from data_specs.controls.automation import BLOCK, Automation
from data_specs.rates import SAMPLE_RATE
from data_specs.spec import load_spec
from pipeline.plan.plan import PlannedClip
from pipeline.render.renderer import Renderer
from pipeline.render.soundfont import soundfont_path


@pytest.fixture(scope="module")
def player():
    spec = load_spec("expressive")
    with Renderer(soundfont_path(spec.rendering.soundfont), spec.rendering, SAMPLE_RATE) as renderer:
        yield Player(spec, renderer)


@pytest.fixture(scope="module")
def clip(player):
    """Three notes of a violin with a moving level, a glide and a moving filter."""
    blocks = player.samples // BLOCK
    time = np.linspace(0, 1, blocks)
    level = 0.5 + 0.4 * np.sin(9 * time)
    level[1400:] *= 0.6
    bend = np.where((time > 0.4) & (time < 0.5), 100 * (time - 0.4), 0)
    brightness = 0.5 + 0.4 * np.cos(7 * time)
    brightness[2500:] += 0.1
    automation = Automation(level, bend, brightness, -4800 * (1 - brightness), np.ones(3, np.int64))
    notes = [[0, 57_600, 60, 0], [57_600, 128_000, 64, 0], [134_400, 185_600, 55, 0]]
    for note in notes:
        note[3] = round(127 * level[note[0] // BLOCK])
    return PlannedClip("0" * 16, np.array(notes, np.int32), 1, {}, automation)


def test_level_and_brightness_are_those_of_the_curves(player, clip):
    found, audio = Found(), player.play(clip)
    measure_level(player, clip, audio, found)
    measure_brightness(player, clip, audio, found)
    assert np.median(found.joined("level error dB")) < 0.1
    assert found.joined("brightness rank, violin")[0] > 0.7


def test_changes_act_within_a_block(player, clip):
    found = Found()
    measure_times(player, clip, player.play(clip), found)
    for name in ("level", "bend", "cutoff"):
        assert 0 <= found.joined(f"{name} samples")[0] < BLOCK


def test_a_level_that_does_not_follow_is_found(player, clip):
    flat = player.play(clip, level=np.full(len(clip.automation.level), 0.5))
    found = Found()
    measure_level(player, clip, flat, found)
    assert np.median(found.joined("level error dB")) > 2

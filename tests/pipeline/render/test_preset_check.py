"""Which notes a preset plays: key ranges, tuning and the law of velocities, on presets that have known faults."""

import json
import math
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from data_specs.errors import UserError
from data_specs.spec import Instrument, Rendering
from pipeline.render.preset_check import PresetCheck, check_preset, deviation_cents, refuse_unusable
from pipeline.render.renderer import Renderer
from pipeline.render.soundfont import soundfont_path
from tests.pipeline.made_soundfont import Preset, write_soundfont

RATE = 24_000


@pytest.fixture(scope="module")
def bundled() -> Iterator[Renderer]:
    with Renderer(soundfont_path("timgm6mb"), Rendering(soundfont="timgm6mb"), RATE) as made:
        yield made


@pytest.mark.parametrize("program", [0, 8, 14, 19, 40, 56, 73])  # bars and bells have no harmonic partials
def test_presets_of_the_bundled_soundfont_pass(bundled: Renderer, program: int) -> None:
    instrument = Instrument(name="one", program=program)
    check = check_preset(bundled, instrument, 58, 62, RATE)
    refuse_unusable(check, instrument, "TimGM6mb.sf2")
    assert check.playable[58:63, 1:].all()
    assert not check.sounding[:58].any()
    assert check.law_db <= 0.1


@pytest.mark.parametrize("semitones", [-12, 12])
@pytest.mark.parametrize("program", [0, 20, 24, 40, 56, 70, 73])
def test_octave_errors_of_real_sounds_are_deviations(bundled: Renderer, program: int, semitones: int) -> None:
    with bundled.probe(Instrument(name="one", program=program)) as probe:
        for pitch in (50, 60, 70):
            sound = probe(pitch + semitones, 100, 264)[24 * 64 :]
            assert deviation_cents(sound, pitch, RATE) == pytest.approx(100 * semitones, abs=30)


FONT = (Preset(0), Preset(1, tune=1200), Preset(2, tune=-1200), Preset(3, velocities=(0, 80)), Preset(4, noise=True))


def test_presets_of_a_soundfont_file(tmp_path: Path) -> None:
    """Octaves up and down, a missing velocity layer, noise; a check survives its JSON."""
    soundfont = write_soundfont(tmp_path / "made.sf2", *FONT)
    with Renderer(soundfont, Rendering(soundfont="made"), RATE) as renderer:
        made = [
            (one, check_preset(renderer, one, 58, 61, RATE))
            for one in (Instrument(name=f"p{preset.program}", program=preset.program) for preset in FONT)
        ]
    plain, layered = made[0][1], made[3][1]
    assert plain.playable[58:62, 1:].all()
    assert layered.playable[58:62, 1:81].all()
    assert not layered.playable[:, 81:].any()
    for (instrument, check), fault in zip(
        made, ("", r"got \+1(199|200)", "got -1(199|200)", "", "must be pitched"), strict=True
    ):
        restored = PresetCheck.from_json(json.loads(json.dumps(check.to_json())))
        assert np.array_equal(restored.playable, check.playable)
        if not fault:
            refuse_unusable(check, instrument, "made.sf2")
            continue
        with pytest.raises(UserError, match=fault):
            refuse_unusable(check, instrument, "made.sf2")


@pytest.mark.parametrize("program", [116, 122, 127])  # taiko, seashore, gunshot
def test_unpitched_presets_are_refused_by_name(bundled: Renderer, program: int) -> None:
    instrument = Instrument(name="noise", program=program)
    with pytest.raises(UserError, match=rf"noise \(program {program}, bank 0\) of a.sf2 must be pitched"):
        refuse_unusable(check_preset(bundled, instrument, 58, 62, RATE), instrument, "a.sf2")


def harmonic(midi: float, partials: tuple[float, ...] = (1, 0.5, 0.3, 0.2), seconds: float = 0.64) -> np.ndarray:
    time = np.arange(round(seconds * RATE)) / RATE
    hz = 440 * 2 ** ((midi - 69) / 12)
    return sum(a * np.sin(2 * math.pi * hz * (k + 1) * time + k) for k, a in enumerate(partials))  # type: ignore[return-value]


@pytest.mark.parametrize("pitch", [36, 48, 60, 72, 84, 96])
@pytest.mark.parametrize("cents", [-200.0, -60.0, -3.0, 0.0, 40.0, 120.0])
def test_deviation_of_a_harmonic_sound(pitch: int, cents: float) -> None:
    assert deviation_cents(harmonic(pitch + cents / 100), pitch, RATE) == pytest.approx(cents, abs=3)


def test_deviation_without_a_fundamental_and_of_noise() -> None:
    assert deviation_cents(harmonic(60, (0, 0, 1, 0.8, 0.6)), 60, RATE) == pytest.approx(0, abs=3)
    assert math.isnan(deviation_cents(np.random.default_rng(0).normal(size=15_360), 60, RATE))
    assert math.isnan(deviation_cents(np.zeros(15_360), 60, RATE))


class FaultyPreset:
    """Sines in place of a SoundFont: silent below pitch 60 and from velocity 100 to 110, `cents` out of tune."""

    def __init__(self, cents: float = 0.0) -> None:
        self.cents = cents

    def probe(self, instrument: Instrument) -> "FaultyPreset":
        return self

    def __enter__(self) -> "FaultyPreset":
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def __call__(self, pitch: int, velocity: int, blocks: int) -> np.ndarray:
        audible = pitch >= 60 and velocity not in range(101, 111)
        sound = harmonic(pitch + self.cents / 100, seconds=blocks * 64 / RATE)
        return (0.2 * audible * (velocity / 127) ** 2 * sound).astype(np.float32)


def test_missing_keys_and_velocity_layers_are_found() -> None:
    check = check_preset(FaultyPreset(), Instrument(name="x", program=0), 55, 65, RATE)  # type: ignore[arg-type]
    expected = np.zeros((128, 128), bool)
    expected[60:66, 1:] = True
    expected[:, 101:111] = False
    assert np.array_equal(check.playable, expected)


def test_detuned_and_silent_presets_are_refused_by_name() -> None:
    instrument = Instrument(name="x", program=3)
    for cents in (-200, 70):
        check = check_preset(FaultyPreset(cents), instrument, 58, 70, RATE)  # type: ignore[arg-type]
        with pytest.raises(
            UserError,
            match=re.escape(f"x (program 3, bank 0) of a.sf2 must be tuned within 50 cents, got {cents:+d} cents"),
        ):
            refuse_unusable(check, instrument, "a.sf2")
    with pytest.raises(UserError, match="is silent"):
        refuse_unusable(check_preset(FaultyPreset(), instrument, 40, 50, RATE), instrument, "a.sf2")  # type: ignore[arg-type]

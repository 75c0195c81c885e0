"""Automation in the audio: level, pitch and brightness follow their curves, on time, and end with their note."""

from collections.abc import Iterator
from pathlib import Path

import librosa
import numpy as np
import pytest

from data_specs.controls.automation import Automation
from data_specs.spec import Instrument, Rendering
from pipeline.render.isolated_renderer import IsolatedRenderer
from pipeline.render.renderer import Renderer
from pipeline.render.soundfont import soundfont_path

RATE, BLOCK, SAMPLES = 24_000, 64, 96_000
BLOCKS = SAMPLES // BLOCK
PIANO, VIOLIN, TRUMPET = INSTRUMENTS = [
    Instrument(name=name, program=program) for name, program in (("piano", 0), ("violin", 40), ("trumpet", 56))
]
LONG = np.array([[6400, 83_200, 60, 127]], np.int32)
RENDERING = Rendering(soundfont="timgm6mb")


@pytest.fixture(scope="module")
def renderer() -> Iterator[Renderer]:
    with Renderer(soundfont_path("timgm6mb"), RENDERING, RATE) as made:
        yield made


def automation(notes: np.ndarray, **curves: np.ndarray | float) -> Automation:
    values = {"level": 1.0, "bend": 0.0, "brightness": 1.0, "cutoff": 0.0, **curves}
    arrays = {name: np.broadcast_to(np.asarray(value, float), BLOCKS).copy() for name, value in values.items()}
    return Automation(**arrays, instruments=np.zeros(len(notes), np.int64))


def play(renderer: Renderer, notes: np.ndarray, instrument: Instrument, **curves: np.ndarray | float) -> np.ndarray:
    return renderer.render_expressive(notes, [instrument] * len(notes), SAMPLES, automation(notes, **curves))


def random_performance(seed: int, count: int = 20) -> tuple[np.ndarray, list[Instrument], Automation]:
    rng = np.random.default_rng(seed)
    edges = np.sort(rng.choice(np.arange(1, BLOCKS), 2 * count, replace=False)) * BLOCK
    pitches, velocities = rng.integers(48, 73, count), rng.integers(1, 128, count)
    notes = np.stack([edges[::2], edges[1::2], pitches, velocities], axis=1).astype(np.int32)
    time = np.arange(BLOCKS)
    played = automation(
        notes,
        level=0.5 + 0.49 * np.sin(time / rng.uniform(20, 200)),
        bend=rng.uniform(0, 3) * np.sin(time / rng.uniform(10, 50)),
        cutoff=-2400 * (0.5 + 0.5 * np.cos(time / rng.uniform(20, 200))),
    )
    return notes, [INSTRUMENTS[i] for i in rng.integers(0, 3, count)], played


@pytest.mark.parametrize("velocity", [8, 64, 127])
@pytest.mark.parametrize("instrument", INSTRUMENTS, ids=lambda instrument: instrument.name)
def test_level_follows_its_curve(renderer: Renderer, instrument: Instrument, velocity: int) -> None:
    level = np.interp(np.arange(BLOCKS), [0, 700, BLOCKS], [0.1, 0.95, 0.2])
    notes = LONG.copy()
    notes[:, 3] = velocity
    full = renderer.render(LONG, instrument, SAMPLES).reshape(-1, BLOCK)  # attenuation scales, and does nothing else
    moving = play(renderer, notes, instrument, level=level).reshape(-1, BLOCK)
    blocks = np.arange(110, 1290)
    gain = 10 * np.log10((moving[blocks] ** 2).mean(1) / (full[blocks] ** 2).mean(1))
    error = np.abs(gain - 40 * np.log10(level[blocks]))
    assert error.max() < 0.2  # the gain of a block moves from the block before
    assert np.median(error) < 0.06


def test_a_step_of_the_level_acts_within_one_block(renderer: Renderer) -> None:
    step = np.where(np.arange(BLOCKS) < 500, 1.0, 0.25)
    full = renderer.render(LONG, VIOLIN, SAMPLES)
    stepped = play(renderer, LONG, VIOLIN, level=step)
    assert np.abs(stepped[: 500 * BLOCK] - full[: 500 * BLOCK]).max() < 1e-6
    assert np.abs(stepped[502 * BLOCK : 83_200] - full[502 * BLOCK : 83_200] / 16).max() < 2e-4


def test_full_level_and_no_bend_equal_plain_rendering(renderer: Renderer) -> None:
    notes = np.array([[640, 12_800, 60, 127], [12_800, 38_400, 67, 127], [40_000, 80_000, 55, 127]], np.int32)
    for instrument in INSTRUMENTS:
        np.testing.assert_allclose(
            play(renderer, notes, instrument), renderer.render(notes, instrument, SAMPLES), atol=1e-6
        )


def test_a_release_keeps_the_automation_of_its_note(renderer: Renderer) -> None:
    first, second = np.array([[640, 32_000, 60, 100]], np.int32), np.array([[32_000, 80_000, 67, 30]], np.int32)
    curves = {
        "level": np.where(np.arange(BLOCKS) < 500, np.linspace(0.9, 0.05, BLOCKS), 0.9),
        "bend": np.where(np.arange(BLOCKS) < 500, 0.0, 5.0),
        "cutoff": np.where(np.arange(BLOCKS) < 500, -2400.0, 0.0),
    }
    for instrument in INSTRUMENTS:
        both = play(renderer, np.concatenate([first, second]), instrument, **curves)
        apart = play(renderer, first, instrument, **curves) + play(renderer, second, instrument, **curves)
        np.testing.assert_allclose(both, apart, atol=1e-6)


@pytest.mark.parametrize("instrument", INSTRUMENTS, ids=lambda instrument: instrument.name)
def test_bends_are_heard_at_their_pitch(renderer: Renderer, instrument: Instrument) -> None:
    bend = np.interp(np.arange(BLOCKS), [300, 900], [0.0, 4.0]) + 0.3 * np.sin(2 * np.pi * 5 * np.arange(BLOCKS) / 375)
    audio = play(renderer, LONG, instrument, bend=bend)
    hz = librosa.yin(audio, fmin=150, fmax=600, sr=RATE, frame_length=1024, hop_length=BLOCK)[:BLOCKS]
    asked = 60 + bend
    cents = 100 * (librosa.hz_to_midi(hz) - asked)[150:1250]
    assert np.median(np.abs(cents)) < 10
    assert np.mean(np.abs(cents) < 50) > 0.9


@pytest.mark.parametrize(("instrument", "depth"), [(PIANO, 2400), (VIOLIN, 4800), (TRUMPET, 4800)])
def test_a_lower_cutoff_darkens_the_sound(renderer: Renderer, instrument: Instrument, depth: int) -> None:
    def centroid(cutoff: float) -> float:
        audio = play(renderer, LONG, instrument, cutoff=cutoff)
        return float(np.median(librosa.feature.spectral_centroid(y=audio[6400:83_200], sr=RATE)))

    centroids = [centroid(-depth * share) for share in (0.0, 0.5, 1.0)]
    assert centroids[0] > 1.05 * centroids[1] > 1.05 * 1.05 * centroids[2]


def test_expressive_bits_are_independent_of_rendering_order(renderer: Renderer) -> None:
    performances = [random_performance(seed) for seed in range(4)]
    first = [renderer.render_expressive(n, i, SAMPLES, a) for n, i, a in performances]
    for index in np.random.default_rng(0).permutation(np.repeat(np.arange(4), 2)):
        notes, instruments, played = performances[index]
        assert np.array_equal(renderer.render_expressive(notes, instruments, SAMPLES, played), first[index])
        renderer.render(notes, PIANO, SAMPLES)
    assert len({audio.tobytes() for audio in first}) == 4


def test_each_note_has_its_own_instrument(renderer: Renderer) -> None:
    notes = np.array([[640, 25_600, 60, 127], [48_000, 80_000, 60, 127]], np.int32)
    relay = renderer.render_expressive(notes, [PIANO, TRUMPET], SAMPLES, automation(notes))
    np.testing.assert_allclose(relay[:25_600], renderer.render(notes, PIANO, SAMPLES)[:25_600], atol=1e-6)
    trumpet = renderer.render(notes[1:], TRUMPET, SAMPLES)
    assert np.abs(relay[50_000:] - trumpet[50_000:]).max() < 0.05 * np.abs(trumpet).max()  # the piano's tail remains


def test_an_isolated_renderer_gives_the_same_bits(renderer: Renderer) -> None:
    notes, instruments, played = random_performance(9)
    isolated = IsolatedRenderer(Path(soundfont_path("timgm6mb")), RENDERING, RATE)
    try:
        assert np.array_equal(
            isolated.render_expressive(notes, instruments, SAMPLES, played),
            renderer.render_expressive(notes, instruments, SAMPLES, played),
        )
        assert np.array_equal(isolated.render(notes, PIANO, SAMPLES), renderer.render(notes, PIANO, SAMPLES))
    finally:
        isolated.close()


def test_overlapping_notes_and_missing_instruments_are_refused(renderer: Renderer) -> None:
    notes = np.array([[640, 12_800, 60, 127], [6400, 38_400, 67, 127]], np.int32)
    with pytest.raises(ValueError, match="monophonic"):
        play(renderer, notes, PIANO)
    with pytest.raises(ValueError, match="one instrument each"):
        renderer.render_expressive(notes[:1], [], SAMPLES, automation(notes[:1]))

"""Rendering: bit-exact in any order, sample-exact events, one error sentence per fault."""

import ctypes
import importlib.abc
import sys
import types
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from data_specs.errors import UserError
from data_specs.spec import Instrument, Rendering
from pipeline.render import fluidsynth as fluid_module
from pipeline.render.renderer import Renderer, audio_fault, rms_dbfs
from pipeline.render.soundfont import soundfont_path

SAMPLES = 96_000
FLUIDR3 = Path("/usr/share/sounds/sf2/FluidR3_GM.sf2")  # Debian's fluid-soundfont-gm
PROGRAMS = {"piano": 0, "violin": 40, "trumpet": 56}
INSTRUMENTS = [Instrument(name=name, program=program) for name, program in PROGRAMS.items()]
FONTS = ["timgm6mb"]
if FLUIDR3.exists():
    FONTS.append(str(FLUIDR3))


def make_renderer(font: str, **settings: object) -> Renderer:
    rendering = Rendering.model_validate({"soundfont": font, **settings})
    return Renderer(soundfont_path(font), rendering, 24_000)


@pytest.fixture(scope="module", params=FONTS, ids=lambda font: Path(font).stem)
def renderer(request: pytest.FixtureRequest) -> Iterator[Renderer]:
    with make_renderer(request.param) as made:
        yield made


@pytest.fixture(scope="module")
def bundled() -> Iterator[Renderer]:
    with make_renderer("timgm6mb") as made:
        yield made


def melody(seed: int, count: int = 12) -> np.ndarray:
    rng = np.random.default_rng(seed)
    edges = np.sort(rng.choice(np.arange(1, SAMPLES // 64), 2 * count, replace=False)) * 64
    columns = [edges[::2], edges[1::2], rng.integers(48, 73, count), rng.integers(1, 128, count)]
    return np.stack(columns, axis=1).astype(np.int32)


def note(onset: int, offset: int, pitch: int = 60, velocity: int = 100) -> np.ndarray:
    return np.array([[onset, offset, pitch, velocity]], np.int32)


def test_clip_bits_are_independent_of_rendering_order(renderer: Renderer, request: pytest.FixtureRequest) -> None:
    clips = [(seed, instrument) for seed in range(4) for instrument in INSTRUMENTS]
    in_order = {(seed, i.name): renderer.render(melody(seed), i, SAMPLES) for seed, i in clips}
    rng = np.random.default_rng(5)
    for index in rng.permutation(np.repeat(np.arange(len(clips)), 2)):
        seed, instrument = clips[index]
        assert np.array_equal(renderer.render(melody(seed), instrument, SAMPLES), in_order[seed, instrument.name])
    with make_renderer(request.node.callspec.params["renderer"]) as alone:
        seed, instrument = clips[-1]
        assert np.array_equal(alone.render(melody(seed), instrument, SAMPLES), in_order[seed, instrument.name])
    assert len({audio.tobytes() for audio in in_order.values()}) == len(clips)


@pytest.mark.parametrize("effects", [{"reverb": True}, {"chorus": True}, {"reverb": True, "chorus": True}])
def test_effects_change_the_audio_and_leave_no_state(bundled: Renderer, effects: dict[str, bool]) -> None:
    strings = Instrument(name="strings", program=50)  # its preset sends to both effects
    with make_renderer("timgm6mb", **effects) as wet:
        first = wet.render(melody(0), strings, SAMPLES)
        wet.render(melody(1), strings, SAMPLES)
        assert np.array_equal(wet.render(melody(0), strings, SAMPLES), first)
    assert not np.allclose(first, bundled.render(melody(0), strings, SAMPLES), atol=1e-3)


@pytest.mark.parametrize("instrument", INSTRUMENTS, ids=list(PROGRAMS))
def test_agrees_with_pyfluidsynth(bundled: Renderer, instrument: Instrument) -> None:
    import fluidsynth

    notes = melody(7)
    synth = fluidsynth.Synth(gain=1.0, samplerate=24_000.0)
    for name in ("synth.reverb.active", "synth.chorus.active", "synth.min-note-length"):
        synth.setting(name, 0)
    font = synth.sfload(str(soundfont_path("timgm6mb")))
    synth.program_select(0, font, 0, instrument.program)
    events = sorted([(n[0], 1, n) for n in notes.tolist()] + [(n[1], 0, n) for n in notes.tolist()])
    pieces, now = [], 0
    for time, starts, (_, _, pitch, velocity) in events:
        pieces.append(synth.get_samples(time - now))
        now = time
        if starts:
            synth.noteon(0, pitch, velocity)
        else:
            synth.noteoff(0, pitch)
    pieces.append(synth.get_samples(SAMPLES - now))
    synth.delete()
    expected = np.concatenate(pieces).reshape(-1, 2).mean(axis=1) / 32768
    # 16 bits with dither against floats: two steps at most
    assert np.abs(bundled.render(notes, instrument, SAMPLES) - expected).max() < 2 / 32768


def test_onset_shift_shifts_the_audio(renderer: Renderer) -> None:
    for instrument in INSTRUMENTS:
        early = renderer.render(note(6400, 12_800), instrument, SAMPLES)
        assert not early[:6400].any()
        assert early[6400:7400].any()
        late = renderer.render(note(6400 + 64 * 33, 12_800 + 64 * 33), instrument, SAMPLES)
        assert np.array_equal(late[64 * 33 :], early[: -64 * 33])


@pytest.mark.parametrize("length", [64, 128, 640, 6400])
def test_note_is_released_at_its_offset(renderer: Renderer, length: int) -> None:
    for instrument in INSTRUMENTS:
        short = renderer.render(note(6400, 6400 + length), instrument, SAMPLES)
        held = renderer.render(note(6400, 6400 + length + 6400), instrument, SAMPLES)
        first = int(np.argmax(short != held))
        assert 6400 + length <= first < 6400 + length + 128


def test_repeated_note_is_released_before_its_next_onset(bundled: Renderer) -> None:
    twice = np.concatenate([note(6400, 12_800), note(12_800, 19_200)])
    audio = bundled.render(twice, INSTRUMENTS[2], SAMPLES)
    assert np.abs(audio[17_000:19_200]).max() > 0.5 * np.abs(audio[6400:12_800]).max()
    assert np.array_equal(audio, bundled.render(twice[::-1], INSTRUMENTS[2], SAMPLES))


def test_velocity_gain_and_length_change_the_audio(bundled: Renderer) -> None:
    levels = [
        rms_dbfs(bundled.render(note(0, 48_000, velocity=v), INSTRUMENTS[0], SAMPLES)) for v in (20, 60, 100, 127)
    ]
    assert np.all(np.diff(levels) > 2)
    with make_renderer("timgm6mb", gain=0.5) as quiet:
        half = quiet.render(melody(0), INSTRUMENTS[0], SAMPLES)
    full = bundled.render(melody(0), INSTRUMENTS[0], SAMPLES)
    assert np.allclose(2 * half, full, atol=1e-5)
    assert bundled.render(melody(0)[:0], INSTRUMENTS[0], 1000).tolist() == [0.0] * 1000  # no notes, no whole block


def test_default_gain_peaks_below_full_scale(renderer: Renderer) -> None:
    onsets = np.arange(1, SAMPLES // 64 - 20, 20) * 64
    rng = np.random.default_rng(0)
    peaks = []
    for instrument in INSTRUMENTS:
        for _ in range(3):
            pitches, loudest = rng.integers(48, 73, len(onsets)), np.full(len(onsets), 127)
            audio = renderer.render(np.stack([onsets, onsets + 1280, pitches, loudest], 1), instrument, SAMPLES)
            assert audio_fault(audio) is None
            peaks.append(np.abs(audio).max())
    assert max(peaks) > 0.4


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        (note(32, 640), "off the block"),
        (note(0, 650), "off the block"),
        (note(640, 640), "empty"),
        (note(1280, 640), "backwards"),
        (note(-64, 640), "before the start"),
        (note(0, SAMPLES + 64), "after the end"),
        (note(0, 640, velocity=0), "velocity"),
        (note(0, 640, pitch=128), "pitch"),
        (note(0, 640).astype(np.float32), "floats"),
    ],
)
def test_invalid_notes_are_refused(bundled: Renderer, bad: np.ndarray, why: str) -> None:
    with pytest.raises(ValueError, match="multiples of 64"):
        bundled.render(bad, INSTRUMENTS[0], SAMPLES)


def test_missing_program_is_named(bundled: Renderer) -> None:
    with pytest.raises(UserError, match=r"TimGM6mb.sf2 has no program 3 in bank 77 for kazoo"):
        bundled.render(melody(0), Instrument(name="kazoo", program=3, bank=77), SAMPLES)
    assert bundled.render(melody(0), INSTRUMENTS[0], SAMPLES).any()  # the renderer still works


def test_closing_twice_is_allowed_and_rendering_after_close_is_refused() -> None:
    renderer = make_renderer("timgm6mb")
    renderer.close()
    renderer.close()
    with pytest.raises(ValueError, match="closed"):
        renderer.render(melody(0), INSTRUMENTS[0], SAMPLES)


def test_missing_or_invalid_soundfonts_are_refused(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UserError, match="must be `timgm6mb` or an existing file"):
        soundfont_path(str(tmp_path / "none.sf2"))
    text = tmp_path / "text.sf2"
    text.write_text("not a SoundFont at all")
    with pytest.raises(UserError, match="must be a SoundFont"):
        soundfont_path(str(text))
    whole = soundfont_path("timgm6mb")
    cut = tmp_path / "cut.sf2"
    cut.write_bytes(whole.read_bytes()[:100_000])
    with pytest.raises(UserError, match=r"cannot load the SoundFont .*cut\.sf2 \(.+\); choose another") as refusal:
        make_renderer(str(cut))
    assert "no reason given" not in str(refusal.value)
    assert "fluidsynth:" not in capfd.readouterr().err  # its lines are in the sentence, not on the terminal


def test_rendering_does_not_import_pretty_midi_for_its_soundfont() -> None:
    import subprocess

    code = "from pipeline.render.soundfont import soundfont_path as f; f('timgm6mb'); import sys; print(*sys.modules)"
    modules = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"pretty_midi", "fluidsynth", "torch"} & set(modules)


def test_wrong_or_missing_library_names_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "fluidsynth", types.ModuleType("fluidsynth"))
    with pytest.raises(UserError, match="pip uninstall fluidsynth"):
        fluid_module._library()
    monkeypatch.setitem(sys.modules, "fluidsynth", None)
    with pytest.raises(UserError, match="pip install pyfluidsynth"):
        fluid_module._library()
    monkeypatch.delitem(sys.modules, "fluidsynth")

    class NoLibrary(importlib.abc.MetaPathFinder):
        def find_spec(self, name: str, path: object, target: object = None) -> None:
            if name == "fluidsynth":
                raise ImportError("Couldn't find the FluidSynth library.")

    monkeypatch.setattr(sys, "meta_path", [NoLibrary(), *sys.meta_path])
    with pytest.raises(UserError, match=r"cannot be loaded .*apt-get install libfluidsynth3"):
        fluid_module._library()


def test_library_without_a_function_is_refused() -> None:
    with pytest.raises(UserError, match=r"must be 2\.0 or later, got one without new_fluid_settings"):
        fluid_module.bind(ctypes.CDLL(None))


def test_audio_faults_and_rms_levels() -> None:
    time = np.arange(24_000) / 24_000
    tone = (0.5 * np.sin(2 * np.pi * 440 * time)).astype(np.float32)
    assert audio_fault(tone) is None
    assert rms_dbfs(tone) == pytest.approx(-9.03, abs=0.01)
    assert rms_dbfs(np.ones(100, np.float32)) == 0.0
    assert rms_dbfs(np.zeros(100, np.float32)) == -np.inf
    assert audio_fault(tone * 0.0015) == "silence"
    assert audio_fault(tone * 0.0025) is None
    assert audio_fault(tone * 2.1) == "clipping"
    for value in (np.nan, np.inf, -np.inf):
        broken = tone.copy()
        broken[100] = value
        assert audio_fault(broken) == "non-finite"

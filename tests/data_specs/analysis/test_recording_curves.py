"""Curves of a recording against a synthetic voice of known pitch, level and timbre."""

import sys

import numpy as np
import pytest
import soundfile

from data_specs.analysis.recording_curves import curves_from_audio, read_recording
from data_specs.analysis.swift_f0 import swift_pitch
from data_specs.errors import UserError

RATE, HOP = 24_000, 320
NAMES = ("velocity", "chroma", "pitch", "brightness")


def voice(notes, seconds=4.0, noise_db=None):
    """Audio [N] of notes (start s, stop s, MIDI pitch, level dB), and pitch and level at frames, NaN in rests."""
    time = np.arange(round(seconds * RATE)) / RATE
    audio, pitch, level = np.zeros_like(time), np.full_like(time, np.nan), np.full_like(time, np.nan)
    for start, stop, midi, db in notes:
        here = (time >= start) & (time < stop)
        pitch[here], level[here] = midi, db
        inside = time[here] - start
        fade = np.minimum(1, np.minimum(inside, stop - start - inside) / 0.02)
        partials = [np.sin(2 * np.pi * k * 440 * 2 ** ((midi - 69) / 12) * inside) / k for k in range(1, 12)]
        audio[here] = 0.3 * 10 ** (db / 20) * fade * sum(partials)
    if noise_db is not None:
        power = np.mean(audio[~np.isnan(pitch)] ** 2) / 10 ** (noise_db / 10)
        audio = audio + np.random.default_rng(0).normal(0, np.sqrt(power), len(audio))
    return audio.astype(np.float32), pitch[::HOP], level[::HOP]


MELODY = [(0.2, 0.9, 48, -12), (0.9, 1.6, 55.5, 0), (1.9, 2.6, 64, -6), (2.6, 3.4, 60, -18)]


def arrays(audio, **options):
    frames = len(audio) // HOP
    return curves_from_audio(audio, NAMES, **options).arrays((), len(audio), frames, HOP, NAMES)


@pytest.mark.parametrize("noise_db", [None, 20])
def test_pitch_level_and_rests_are_those_of_the_voice(noise_db):
    audio, pitch, level = voice(MELODY, noise_db=noise_db)
    found = arrays(audio, sharpness=1.0)
    sounding = ~np.isnan(pitch)
    known = sounding & (found["pitch"] > 0)
    assert known.sum() > 0.85 * sounding.sum()
    cents = 100 * np.abs(found["pitch"][known] * 85 + 23 - pitch[known])
    assert np.mean(cents < 30) > 0.9
    heard = sounding & (found["velocity"] > 0)
    assert np.corrcoef(level[heard], found["velocity"][heard])[0, 1] > 0.9
    edges = np.isnan(np.convolve(pitch, np.ones(9), mode="same"))  # frames within reach of a rest
    assert (found["velocity"][edges & ~sounding] == 0).mean() > 0.8
    assert (found["velocity"][~edges] > 0).mean() > 0.95


def test_chroma_has_the_pitch_classes_of_the_notes():
    audio, _, _ = voice([(0.2, 1.2, 48, 0), (1.2, 2.2, 67, -3), (2.5, 3.5, 64, 0)])
    chroma = arrays(audio)["chroma"] * 11
    for second, expected in ((0.7, 0), (1.7, 7), (3.0, 4)):
        assert chroma[round(second * 75)] == pytest.approx(expected, abs=1e-4)
    assert chroma[round(2.35 * 75)] == 0  # a rest


def test_unvoiced_sound_leaves_the_pitch_unconditioned():
    noise = np.random.default_rng(1).normal(0, 0.1, RATE).astype(np.float32)
    audio = np.concatenate([np.zeros(RATE, np.float32), noise, np.zeros(RATE, np.float32)])
    found = arrays(audio)
    middle = slice(80, 145)
    assert (found["pitch"][middle] == -1).mean() > 0.9
    assert (found["velocity"][middle] > 0).all()
    assert (found["pitch"][10:65] == 0).all()


def test_sharpness_goes_from_every_frame_to_the_gesture():
    time = np.arange(4 * RATE) / RATE
    midi = 60 + 0.5 * np.sin(2 * np.pi * 6 * time)
    phase = 2 * np.pi * np.cumsum(440 * 2 ** ((midi - 69) / 12)) / RATE
    audio = (0.2 * (np.sin(phase) + 0.5 * np.sin(2 * phase))).astype(np.float32)
    spread = [np.ptp(arrays(audio, sharpness=value)["pitch"][40:-40] * 85) for value in (1.0, 0.0)]
    assert spread[0] > 0.6
    assert spread[1] < 0.3


def test_notes_are_semitones():
    audio, _, _ = voice([(0.2, 2.0, 60.3, 0), (2.0, 3.5, 64.4, 0)])
    pitch = arrays(audio, notes=True)["pitch"]
    assert set(np.round(pitch[pitch > 0] * 85 + 23, 3)) == {60.0, 64.0}


def test_brightness_is_the_rank_of_the_centroid():
    time = np.arange(RATE) / RATE
    dull, bright = (
        sum(a * np.sin(2 * np.pi * 220 * k * time) for k, a in enumerate(parts, 1)) for parts in ([1, 0.1], [1] * 15)
    )
    audio = np.concatenate([0.3 * dull, 0.05 * bright]).astype(np.float32)
    brightness = arrays(audio)["brightness"]
    assert brightness[10:60].max() < 0.55
    assert brightness[90:140].min() > 0.45
    assert brightness.max() > 0.98


def test_in_noise_swift_f0_keeps_the_notes_that_yin_leaves_out():
    pytest.importorskip("swift_f0")
    audio, pitch, _ = voice(MELODY, noise_db=5)
    kept = {}
    for tracker in ("yin", "swift-f0"):
        found = arrays(audio, sharpness=1.0, tracker=tracker)["pitch"] * 85 + 23
        kept[tracker] = (np.abs(found - pitch) < 0.5).sum() / np.isfinite(pitch).sum()
    assert kept["swift-f0"] > 0.9
    assert kept["yin"] < 0.8


@pytest.mark.parametrize("midi", [41.0, 57.3, 72.0, 84.0])
def test_swift_f0_is_centred_and_in_tune(midi):
    pytest.importorskip("swift_f0")
    audio, pitch, _ = voice([(0.5, 1.5, midi, 0), (2.0, 3.5, midi + 3, 0)])
    found = swift_pitch(audio, HOP, len(audio) // HOP)
    voiced = np.flatnonzero(np.isfinite(found))
    assert abs(voiced[0] * HOP / RATE - 0.5) < 0.05
    assert abs((voiced[-1] + 1) * HOP / RATE - 3.5) < 0.05
    inside = np.isfinite(found) & np.isfinite(pitch)
    assert np.median(np.abs(found[inside] - pitch[inside])) < 0.1


def test_a_missing_tracker_is_one_sentence(monkeypatch):
    audio, _, _ = voice(MELODY)
    monkeypatch.setitem(sys.modules, "swift_f0", None)
    with pytest.raises(UserError, match=r"TRACKER=swift-f0 needs the package swift_f0; pip install"):
        arrays(audio, tracker="swift-f0")
    with pytest.raises(UserError, match="TRACKER= must be yin or swift-f0, got crepe"):
        arrays(audio, tracker="crepe")


def test_the_instrument_is_given_for_the_whole_clip():
    audio, _, _ = voice(MELODY)
    curves = curves_from_audio(audio, ("velocity", "instruments"), instrument="violin")
    assert set(curves.curves) == {"velocity", "instruments"}
    assert curves.instruments == ("violin",)


def test_a_stretch_is_padded_with_silence(tmp_path):
    soundfile.write(tmp_path / "a.wav", np.full(RATE, 0.5), RATE)
    found = read_recording(tmp_path / "a.wav", seconds=2.0, start_s=0.5)
    assert len(found) == 2 * RATE
    assert found[: RATE // 2] == pytest.approx(0.5, abs=1e-3)
    assert not found[RATE // 2 :].any()


def test_wrong_input_is_refused(tmp_path):
    with pytest.raises(UserError, match="silent"):
        curves_from_audio(np.zeros(RATE, np.float32), NAMES)
    with pytest.raises(UserError, match=r"SHARPNESS= must be in 0\.\.1, got 2"):
        curves_from_audio(np.ones(RATE, np.float32), NAMES, sharpness=2.0)
    soundfile.write(tmp_path / "a.wav", np.full(RATE, 0.5), RATE)
    with pytest.raises(UserError, match="START= must be within"):
        read_recording(tmp_path / "a.wav", start_s=1.5)
    (tmp_path / "b.wav").write_bytes(b"no audio")
    with pytest.raises(UserError, match=r"b\.wav cannot be read: not audio"):
        read_recording(tmp_path / "b.wav")

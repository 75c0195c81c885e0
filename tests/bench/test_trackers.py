"""The synthetic voices have the pitch and level they state; the table has a row for each tracker and noise."""

import librosa
import numpy as np
import pytest

from bench.trackers import FRAMES, HOP, measure, table, voice


def test_a_voice_has_the_pitch_and_level_it_states():
    one = voice(0)
    assert one.pitch.shape == one.level.shape == (FRAMES,)
    found = librosa.yin(one.audio, fmin=100, fmax=600, sr=24_000, frame_length=2048, hop_length=HOP)[:FRAMES]
    edges = np.isnan(np.convolve(one.pitch, np.ones(9), mode="same"))
    inside = np.isfinite(one.pitch) & ~edges
    assert np.median(100 * np.abs(librosa.hz_to_midi(found[inside]) - one.pitch[inside])) < 15
    level = librosa.amplitude_to_db(librosa.feature.rms(y=one.audio, frame_length=1024, hop_length=HOP)[0, :FRAMES])
    assert np.corrcoef(level[inside], one.level[inside])[0, 1] > 0.95
    assert not one.audio[: 4800 - 1].any()


def test_noise_has_the_ratio_that_is_asked_for():
    one = voice(1)
    sounding = np.repeat(np.isfinite(one.pitch), HOP)
    noise = one.noisy(10, 0) - one.audio
    assert 10 * np.log10(np.mean(one.audio[sounding] ** 2) / np.mean(noise**2)) == pytest.approx(10, abs=0.1)
    assert measure([one], None, "yin")["RPA"] > 0.9


def test_the_table_has_a_row_for_each_tracker_and_noise():
    pytest.importorskip("swift_f0")
    lines = table(count=1, repeats=1).splitlines()
    assert [line.split(" | ")[1] for line in lines[2:8]] == ["yin", "swift-f0"] * 3
    assert sum(line.endswith("ms for 8 s") for line in lines) == 3

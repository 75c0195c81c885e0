"""Descriptors against closed forms, librosa and the filter of IEC 61672; alignment against impulses."""

import math

import librosa
import numpy as np
import pytest
import torch

from data_specs.analysis.descriptors import AudioAnalysis

RATE = 24_000
TIME = np.arange(2 * RATE) / RATE
MIDDLE = slice(20, -20)


def harmonics(hertz, amplitudes, scale=0.1, time=TIME):
    phase = 2 * np.pi * np.cumsum(np.broadcast_to(hertz, time.shape)) / RATE
    return torch.from_numpy(scale * sum(a * np.sin((k + 1) * phase + k) for k, a in enumerate(amplitudes))).float()


def noise(seed, scale):
    return torch.from_numpy(scale * np.random.default_rng(seed).standard_normal(len(TIME))).float()


@pytest.mark.parametrize("hop", [100, 240, 320])
def test_every_descriptor_is_centred_on_its_frame(hop):
    """An impulse is loudest in the frame nearest to it, and only frames within half a window hear it."""
    for sample in (5000, 5003, 20_011):
        audio = torch.zeros(RATE)
        audio[sample] = 1
        loudness = AudioAnalysis(audio, hop).loudness[0]
        assert loudness.shape == (RATE // hop,)
        assert abs(int(loudness.argmax()) * hop - sample) <= hop / 2
        heard = torch.nonzero(loudness > -80)[:, 0] * hop - sample
        assert abs(int(heard.min() + heard.max())) <= hop
        assert int(heard.abs().max()) <= 512


def test_a_step_in_pitch_is_seen_at_its_time():
    hertz = np.where(TIME < 1, 220, 330)
    pitch = AudioAnalysis(harmonics(hertz, [1, 0.5, 0.3]), 240).pitch[0]
    assert abs(int((pitch > 60).int().argmax()) - 100) <= 5  # within the window of the tracker
    assert (pitch[:94] < 58).all()
    assert (pitch[106:-3] > 63).all()


@pytest.mark.parametrize("hertz", [62.0, 110.0, 440.0, 1046.5, 1900.0])
def test_pitch_of_tones_is_within_two_cents(hertz):
    pitch = AudioAnalysis(harmonics(hertz, [1, 0.5, 0.25]), 320).pitch[0, MIDDLE]
    assert (pitch - librosa.hz_to_midi(hertz)).abs().max() < 0.02


@pytest.mark.parametrize(("snr_db", "cents"), [(20, 3), (10, 8)])
def test_pitch_and_noisiness_of_a_tone_in_noise(snr_db, cents):
    tone = harmonics(220, [1 / k for k in range(1, 10)])
    ratio = 10 ** (-snr_db / 20)
    found = AudioAnalysis(tone + noise(0, float(tone.std()) * ratio), 320)
    error = 100 * (found.pitch[0, MIDDLE] - 57).abs()
    assert error.max() < 50
    assert error.median() < cents
    assert float(found.noisiness[0, MIDDLE].mean()) == pytest.approx(ratio**2 / (1 + ratio**2), rel=0.2)


def test_loudness_is_a_weighted_level():
    for hertz, gain in ((1000, 0.0), (500, -3.2), (200, -10.9), (4000, 1.0)):  # table 3 of the standard
        level = AudioAnalysis(torch.from_numpy(np.sin(2 * np.pi * hertz * TIME)), 320).loudness[0, MIDDLE]
        assert (level - (gain - 10 * math.log10(2))).abs().max() < 0.15, hertz
    expected = librosa.A_weighting(np.fft.rfftfreq(1024, 1 / RATE), min_db=None)
    white = AudioAnalysis(noise(1, 0.1), 320).loudness[0, MIDDLE]
    assert float(white.mean()) == pytest.approx(-20 + 10 * np.log10(np.mean(10 ** (expected / 10))), abs=0.3)


def test_loudness_moves_as_pyloudnorms():
    """Noise in steps of level: A- and K-weighting differ by a constant for one spectrum."""
    meter = pytest.importorskip("pyloudnorm").Meter(RATE)
    levels = np.repeat([-12.0, -30.0, -3.0, -40.0], RATE // 2)
    audio = noise(5, 0.2) * torch.from_numpy(10 ** (levels / 20)).float()
    ours = AudioAnalysis(audio, 240).loudness[0]
    differences = []
    for step in range(4):
        theirs = meter.integrated_loudness(audio[step * RATE // 2 :][: RATE // 2].double().numpy())
        differences.append(float(ours[50 * step + 5 : 50 * step + 45].mean()) - theirs)
    assert np.ptp(differences) < 0.3


def test_centroid_and_spread_are_librosas():
    audio = harmonics(300, [1, 0.4, 0.8, 0.1]) + noise(2, 0.01)
    found = AudioAnalysis(audio, 320)
    kept = {"sr": RATE, "n_fft": 1024, "hop_length": 320, "pad_mode": "constant"}
    centroid = librosa.feature.spectral_centroid(y=audio.numpy(), **kept)[0, : found.frames]
    spread = librosa.feature.spectral_bandwidth(y=audio.numpy(), **kept)[0, : found.frames]
    np.testing.assert_allclose(found.centroid[0], 12 * np.log2(centroid / 20), atol=0.01)
    np.testing.assert_allclose(found.spread[0], spread, rtol=1e-3)


def test_harmonic_descriptors_know_the_amplitudes():
    amplitudes = np.array([1, 0.5, 0.8, 0.2, 0.6, 0.1])
    found = AudioAnalysis(harmonics(330, amplitudes), 320)
    odd, even = (np.square(amplitudes[first::2]).sum() for first in (0, 1))
    assert float(found.odd_even_ratio[0, 50]) == pytest.approx(10 * np.log10(odd / even), abs=0.4)
    shares = np.array([amplitudes[0], amplitudes[1:4].sum(), amplitudes[4:].sum()]) / amplitudes.sum()
    np.testing.assert_allclose(found.tristimulus[:, 0, 50], shares, atol=0.03)


def test_vibrato_depth_is_the_amplitude_of_the_modulation_and_ignores_a_glide():
    vibrato = 40 * np.sin(2 * np.pi * 6 * TIME)
    for glide in (0, 300 * (TIME - 1)):
        audio = harmonics(440 * 2 ** ((vibrato + glide) / 1200), [1, 0.5])
        depth = AudioAnalysis(audio, 240).vibrato_depth[0, MIDDLE]
        assert float(depth.nanmedian()) == pytest.approx(40 * 0.85, rel=0.1)
    still = AudioAnalysis(harmonics(440, [1, 0.5]), 240).vibrato_depth[0, MIDDLE]
    assert float(still.max()) < 1


@pytest.mark.parametrize("hop", [100, 320])
def test_log_attack_time_is_that_of_each_sound(hop):
    """Linear attacks of 0.1 and 0.4 s; each rises from 20 % to 90 % in 0.7 of that."""
    envelope = np.zeros(len(TIME))
    for start, attack in ((0.1, 0.1), (1.0, 0.4)):
        since = TIME - start
        envelope += np.clip(since / attack, 0, 1) * ((since >= 0) & (since < 0.7))
    found = AudioAnalysis(torch.from_numpy(envelope * np.sin(2 * np.pi * 600 * TIME)), hop)
    values = found.log_attack_time[0]
    for second, attack in ((0.4, 0.1), (1.4, 0.4)):
        assert float(values[round(second * RATE / hop)]) == pytest.approx(math.log10(0.7 * attack), abs=0.04)
    assert values[round(0.9 * RATE / hop)].isnan()
    assert (values.isnan() == found.silent[0]).all()
    assert len(values[~values.isnan()].unique()) == 2


def test_a_click_has_the_shortest_attack():
    decay = np.exp(-20 * TIME) * np.sin(2 * np.pi * 600 * TIME)
    assert float(AudioAnalysis(torch.from_numpy(np.roll(decay, 5000)), 240).log_attack_time[0, 30]) < math.log10(0.012)


def test_silence_and_noise_are_masked():
    found = AudioAnalysis(torch.zeros(RATE), 320)
    assert (found.loudness == -80).all()
    for name in ("pitch", "centroid", "spread", "noisiness", "odd_even_ratio", "tristimulus", "vibrato_depth"):
        assert getattr(found, name).isnan().all(), name
    assert found.log_attack_time.isnan().all()
    white = AudioAnalysis(noise(3, 0.1), 320)
    assert white.pitch.isnan().float().mean() > 0.98
    assert white.noisiness.nanmean() > 0.98


def test_a_clip_is_described_alike_alone_and_in_a_batch():
    audio = torch.stack([harmonics(200 + 30 * i, [1, 0.5]) for i in range(3)])
    together, alone = AudioAnalysis(audio, 320), AudioAnalysis(audio[1], 320)
    for name in ("pitch", "loudness", "centroid", "noisiness"):
        torch.testing.assert_close(getattr(together, name)[1:2], getattr(alone, name), atol=1e-3, rtol=0)


def test_any_number_of_frames_can_be_asked_for():
    found = AudioAnalysis(harmonics(200, [1]), 100, frames=481)
    assert found.pitch.shape == found.loudness.shape == found.noisiness.shape == (1, 481)

import numpy as np
import pytest
import torch

from data_specs.analysis.pitch import track


def tone(midi: float, harmonics=(1.0, 0.5, 0.3, 0.2), seconds: float = 0.5) -> np.ndarray:
    time = np.arange(int(24_000 * seconds)) / 24_000
    hertz = 440 * 2 ** ((midi - 69) / 12)
    return sum(a * np.sin(2 * np.pi * hertz * (k + 1) * time + k) for k, a in enumerate(harmonics)) * 0.1


def test_every_pitch_of_the_contract_is_heard_within_five_cents():
    pitches = np.arange(48, 73)
    audio = torch.from_numpy(np.stack([tone(pitch) for pitch in pitches])).float()[:, None]
    found = track(audio)
    middle = slice(10, -10)
    assert found.voiced[:, middle].all()
    np.testing.assert_allclose(found.midi[:, middle].numpy(), np.broadcast_to(pitches[:, None], (25, 30)), atol=0.05)


@pytest.mark.parametrize("harmonics", [(0.05, 1.0, 1.0, 0.5), (1.0,), (1.0, 0, 0.7, 0, 0.4)])
def test_a_weak_or_lone_fundamental_is_still_the_pitch(harmonics):
    found = track(torch.from_numpy(tone(57.3, harmonics)).float()[None, None])
    np.testing.assert_allclose(found.midi[0, 10:-10].numpy(), 57.3, atol=0.06)


def test_noise_and_silence_have_no_pitch():
    noise = torch.from_numpy(np.random.default_rng(0).standard_normal((2, 1, 24_000))).float() * 0.1
    assert track(noise).voiced.float().mean() < 0.02
    assert not track(torch.zeros(1, 1, 24_000)).voiced.any()


def test_a_clip_is_heard_alike_alone_and_in_a_batch():
    audio = torch.from_numpy(np.stack([tone(50 + i) for i in range(11)])).float()[:, None]
    together, alone = track(audio), track(audio[9:10])
    assert torch.equal(together.voiced[9], alone.voiced[0])
    torch.testing.assert_close(together.midi[9], alone.midi[0], atol=1e-3, rtol=0)

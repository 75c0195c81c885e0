import numpy as np
import pytest
import torch

from training.evaluation import degradations


@pytest.fixture
def audio():
    time = np.arange(24_000) / 24_000
    pitches = 200 + 20 * np.arange(60)[:, None]
    sound = np.sin(2 * np.pi * pitches * time) * np.exp(-3 * time) + 0.3 * np.sin(4 * np.pi * pitches * time)
    return torch.from_numpy(sound).float() * 0.1


def test_half_is_left_clean_and_the_ratio_is_that_of_the_difference(audio):
    level = audio.square().mean(-1).sqrt()
    found, ratio = degradations.degrade(audio.repeat(4, 1), level.repeat(4), np.random.default_rng(0))
    clean = (found == audio.repeat(4, 1)).all(-1)
    assert torch.equal(clean, torch.isinf(ratio))
    assert 0.35 < clean.float().mean() < 0.65
    error = (found - audio.repeat(4, 1)).square().mean(-1).sqrt()
    torch.testing.assert_close(ratio, 20 * torch.log10(level.repeat(4) / error))


@pytest.mark.parametrize("make", [degradations.hiss, degradations.multiplicative_noise])
@pytest.mark.parametrize("wanted", [10.0, 40.0])
def test_noise_comes_in_the_amount_asked_for(audio, make, wanted):
    level = audio.square().mean(-1).sqrt()
    found = make(audio, level, torch.full((len(audio),), wanted), np.random.default_rng(0))
    ratio = 20 * torch.log10(level / (found - audio).square().mean(-1).sqrt())
    # Grain in overlapping frames averages to a little less.
    assert wanted - 0.2 < float(ratio.min()) <= float(ratio.max()) < wanted + 5


def test_grain_is_where_the_sound_is(audio):
    half = audio.clone()
    half[:, 12_000:] = 0
    error = (
        degradations.multiplicative_noise(
            half, half.square().mean(-1).sqrt(), torch.full((60,), 10.0), np.random.default_rng(0)
        )
        - half
    )
    assert float(error[:, 13_100:].abs().max()) == 0
    assert float(error[:, :12_000].abs().max()) > 0


def test_holes_keep_the_strong_and_remove_the_weak(audio):
    time = torch.arange(24_000) / 24_000
    weak = audio + 1e-5 * torch.sin(2 * torch.pi * 9000 * time)
    found = degradations.spectral_gate(weak, weak.square().mean(-1).sqrt(), torch.zeros(60), np.random.default_rng(0))
    left = torch.fft.rfft(found[:, 4000:-4000])
    bins = left.shape[-1] * 2 - 2
    assert (left[:, round(9000 / 24_000 * bins)].abs() < 0.02).all()
    assert ((found - weak).square().mean(-1) < 0.5 * weak.square().mean(-1)).all()


def test_the_same_generator_does_the_same_damage(audio):
    level = audio.square().mean(-1).sqrt()
    one, other = (degradations.degrade(audio, level, np.random.default_rng(5))[0] for _ in range(2))
    assert torch.equal(one, other)

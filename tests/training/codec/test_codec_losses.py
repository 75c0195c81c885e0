"""Losses and measures of codecs against librosa, SciPy and known answers."""

import math

import librosa
import numpy as np
import pytest
import torch

from training.codec.discriminator import Discriminator, adversarial_losses
from training.codec.losses import log_mel, magnitudes, mel_loss, relative_loss, stft_loss
from training.codec.measures import log_mel_distance, si_sdr


def clips(seed, scale=0.1):
    return scale * torch.randn(2, 1, 4800, generator=torch.Generator().manual_seed(seed))


def librosa_magnitudes(audio, size):
    return np.abs(librosa.stft(audio.numpy().astype(np.float64), n_fft=size, hop_length=size // 4, pad_mode="reflect"))


def test_magnitudes_are_librosas():
    expected = np.stack([librosa_magnitudes(clip, 512) for clip in clips(0)[:, 0]])
    np.testing.assert_allclose(magnitudes(clips(0), 512).numpy(), expected, atol=1e-5)


def test_mel_loss_is_librosas_mel():
    """To a hundredth: librosa's triangles are straight in hertz, ours on the mel scale."""
    bank = librosa.filters.mel(sr=24_000, n_fft=1024, n_mels=64, htk=True, norm=None)
    mels = [
        [np.log(bank @ librosa_magnitudes(clip, 1024) + 1e-5) for clip in audio[:, 0]] for audio in (clips(0), clips(1))
    ]
    expected = [np.abs(a - b).mean() for a, b in zip(*mels, strict=True)]
    np.testing.assert_allclose(mel_loss(clips(0), clips(1), 1024, 64).numpy(), expected, rtol=2e-3)
    np.testing.assert_allclose(log_mel(magnitudes(clips(0), 1024), 64).numpy(), np.stack(mels[0]), atol=0.02)


def test_stft_loss_is_its_formula():
    expected = []
    for made, real in zip(clips(0)[:, 0], clips(1, 0.05)[:, 0], strict=True):
        total = 0.0
        for size in (256, 1024):
            a, b = librosa_magnitudes(made, size), librosa_magnitudes(real, size)
            total += np.linalg.norm(a - b) / np.linalg.norm(b) + np.abs(np.log(a + 1e-5) - np.log(b + 1e-5)).mean()
        expected.append(total / 2)
    np.testing.assert_allclose(stft_loss(clips(0), clips(1, 0.05), (256, 1024)).numpy(), expected, rtol=1e-4)


def test_relative_loss_does_not_know_the_level():
    audio, target = clips(0), clips(1)
    expected = (audio - target).abs().sum((1, 2)) / target.abs().sum((1, 2))
    torch.testing.assert_close(relative_loss(audio, target), expected)
    torch.testing.assert_close(relative_loss(audio / 8, target / 8), expected)


@pytest.mark.parametrize("made", [torch.zeros(1, 1, 4800), clips(0)[:1]])
def test_silent_targets_give_finite_losses_and_gradients(made):
    silence = torch.zeros(1, 1, 4800)
    made = made.clone().requires_grad_()
    total = stft_loss(made, silence, (256,)) + mel_loss(made, silence, 256, 20) + relative_loss(made, silence)
    total.sum().backward()
    assert made.grad is not None
    assert torch.isfinite(total).all()
    assert torch.isfinite(made.grad).all()


def test_si_sdr_knows_the_noise_and_not_the_level():
    t = torch.arange(24_000) / 24_000
    target, noise = (torch.sin(2 * math.pi * hertz * t)[None, None] for hertz in (300, 700))  # orthogonal
    assert float(si_sdr(target + 0.1 * noise, target)) == pytest.approx(20, abs=1e-3)
    assert float(si_sdr(-3 * (target + 0.1 * noise), target)) == pytest.approx(20, abs=1e-3)
    assert torch.isfinite(si_sdr(target, torch.zeros_like(target))).all()


def test_log_mel_distance_is_librosas():
    bank = librosa.filters.mel(sr=24_000, n_fft=1024, n_mels=80)
    levels = []
    for audio in (clips(0)[0, 0], clips(1, 0.03)[0, 0]):
        spectrum = librosa.stft(audio.numpy().astype(np.float64), n_fft=1024, hop_length=256, pad_mode="reflect")
        power = np.abs(spectrum) ** 2 / (256**2 * 1.5)  # the window's sum is 512
        levels.append(10 * np.log10(np.maximum(bank @ power, 1e-10)))
    expected = np.abs(levels[0] - levels[1]).mean()
    assert float(log_mel_distance(clips(0)[:1], clips(1, 0.03)[:1])) == pytest.approx(expected, rel=1e-4)


def test_half_as_loud_is_six_decibels():
    assert float(log_mel_distance(clips(0), 0.5 * clips(0)).mean()) == pytest.approx(20 * math.log10(2), abs=1e-3)


@pytest.fixture
def judge():
    torch.manual_seed(0)
    return Discriminator((256, 128), 3)


def test_hinge_losses_are_their_formula(judge):
    made, real = clips(0), clips(1)
    found = adversarial_losses(judge, made, real)
    for index in range(2):
        logits = [judge(audio[index : index + 1]).logits for audio in (made, real)]
        logits = [[scale.detach() for scale in scales] for scales in logits]
        pairs = list(zip(*logits, strict=True))
        deceiving = np.mean([float(torch.relu(1 - fake).mean()) for fake, _ in pairs])
        telling = np.mean([float((torch.relu(1 + fake)).mean() + torch.relu(1 - true).mean()) for fake, true in pairs])
        assert float(found.generator_loss[index]) == pytest.approx(deceiving, rel=1e-4)
        assert float(found.discriminator_loss[index]) == pytest.approx(telling, rel=1e-4)
    assert not adversarial_losses(judge, real, real).feature_matching.any()
    assert (found.feature_matching > 0).all()


def test_each_side_gets_its_own_gradient(judge):
    made = clips(0).requires_grad_()
    found = adversarial_losses(judge, made, clips(1))
    (found.generator_loss + found.feature_matching).sum().backward(retain_graph=True)
    assert made.grad is not None
    assert made.grad.any()
    assert all(parameter.grad is None for parameter in judge.parameters())
    made.grad = None
    found.discriminator_loss.sum().backward()
    assert made.grad is None
    assert all(parameter.grad is not None for parameter in judge.parameters())
    assert all(layer.weight.grad.any() for scale in judge.scales for layer in scale.layers)

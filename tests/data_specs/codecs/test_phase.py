"""Phases found for magnitudes: against torch and librosa, on sounds whose phase is known."""

import math

import librosa
import numpy as np
import pytest
import torch
from torch import Tensor

from data_specs.codecs.phase import istft, stft, vocoder_phase, with_phase

HOP, SIZE = 320, 1024
WINDOW = torch.hann_window(SIZE)


def melody(frames: int = 150) -> Tensor:
    """Four notes of five decaying harmonics, float32 [N]."""
    t = np.arange(frames * HOP) / 24_000
    audio = np.zeros_like(t)
    for index, pitch in enumerate((220.0, 277.2, 329.6, 440.0)):
        s = t - index * t[-1] / 4
        envelope = np.where(s > 0, (1 - np.exp(-80 * s)) * np.exp(-4 * s), 0)
        audio += envelope * sum(0.6**k * np.sin(2 * math.pi * pitch * k * s + k) for k in range(1, 6))
    return torch.from_numpy(0.2 * audio).float()


def convergence(magnitudes: Tensor, audio: Tensor) -> float:
    """How far the magnitudes of `audio` are from those asked for, in dB (spectral convergence)."""
    found = stft(audio, WINDOW, HOP).abs()
    return float(20 * torch.log10((found - magnitudes).norm() / magnitudes.norm()))


def test_transform_is_that_of_torch_with_centred_frames() -> None:
    audio = melody()
    margin = (SIZE - HOP) // 2
    padded = torch.nn.functional.pad(audio, (margin, margin))
    reference = torch.stft(padded, SIZE, HOP, window=WINDOW, center=False, return_complex=True).T
    torch.testing.assert_close(stft(audio, WINDOW, HOP), reference, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("frames", [1, 2, 5, 150])
def test_transform_is_undone_at_any_length(frames: int) -> None:
    audio = melody()[5000 : 5000 + frames * HOP] if frames < 100 else melody()
    torch.testing.assert_close(istft(stft(audio, WINDOW, HOP), WINDOW, HOP), audio, atol=1e-5, rtol=0)


@pytest.mark.parametrize("frequency", [200.0, 437.3, 3001.7])
def test_a_steady_tone_turns_at_its_frequency(frequency: float) -> None:
    t = torch.arange(60 * HOP, dtype=torch.float64) / 24_000
    spectrum = stft(torch.sin(2 * math.pi * frequency * t).float(), WINDOW, HOP)
    phase = vocoder_phase(spectrum.abs(), HOP)
    peak = int(spectrum.abs()[30].argmax())
    for k in (peak - 1, peak, peak + 1):
        turns, truly = phase[20:50, k].diff(), spectrum[20:50, k].angle().diff()
        assert torch.cos(turns - truly).min() > math.cos(0.1)  # a tenth of a radian a frame is 1.2 Hz
    between = torch.cos(phase[30, peak + 1] - phase[30, peak])  # neighbours of one sinusoid alternate in sign
    assert between == pytest.approx(-1, abs=1e-3)


def test_much_nearer_than_griffin_lim_from_random_phases() -> None:
    audio = melody()
    magnitudes = stft(audio, WINDOW, HOP).abs()
    ours = convergence(magnitudes, with_phase(magnitudes, WINDOW, HOP, 16))
    theirs = librosa.griffinlim(
        magnitudes.T.numpy(), n_iter=16, hop_length=HOP, win_length=SIZE, random_state=0, momentum=0.99, center=False
    )
    margin = (SIZE - HOP) // 2
    theirs = torch.from_numpy(np.pad(theirs, (0, SIZE))[margin : margin + len(audio)])
    assert ours < -25
    assert ours < convergence(magnitudes, theirs) - 5


def test_iterations_help() -> None:
    magnitudes = stft(melody(), WINDOW, HOP).abs()
    none, some, many = (convergence(magnitudes, with_phase(magnitudes, WINDOW, HOP, n)) for n in (0, 4, 16))
    assert many < some - 1
    assert some < none - 1


def test_silence_is_exactly_silent_and_edges_are_finite() -> None:
    assert not with_phase(torch.zeros(20, SIZE // 2 + 1), WINDOW, HOP, 4).any()
    lonely = torch.zeros(20, SIZE // 2 + 1)
    lonely[10, 0] = lonely[10, -1] = 1.0  # no peaks but at the edges of the spectrum
    assert torch.isfinite(with_phase(lonely, WINDOW, HOP, 4)).all()

"""The lapped transform against its definition and its properties."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from data_specs.codecs import mdct

WINDOWS = [mdct.sine_window, mdct.vorbis_window, lambda hop=mdct.HOP: mdct.kaiser_bessel_window(4.0, hop)]
HOP = 8  # small enough to write the definition out


def noise(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize("window", WINDOWS)
def test_windows_keep_power(window: Callable[[], Tensor]) -> None:
    values = window()
    assert values.shape == (640,)
    torch.testing.assert_close(values[:320] ** 2 + values[320:] ** 2, torch.ones(320, dtype=torch.float64))
    torch.testing.assert_close(values, values.flip(0))


@pytest.mark.parametrize("window", WINDOWS)
def test_inverse_is_exact_to_the_edges(window: Callable[[], Tensor]) -> None:
    audio = noise(2, 1, 320 * 9)
    kernel = mdct.kernel(window())
    back = mdct.synthesise(mdct.analyse(audio, kernel), kernel, window())
    torch.testing.assert_close(back, audio, atol=1e-10, rtol=0)


@pytest.mark.parametrize(("samples", "frames"), [(192_000, 600), (320, 1), (640, 2)])
def test_frames_of_a_clip(samples: int, frames: int) -> None:
    kernel = mdct.kernel(mdct.sine_window()).float()
    audio = noise(1, 1, samples).float()
    coefficients = mdct.analyse(audio, kernel)
    assert coefficients.shape == (1, 320, frames)
    back = mdct.synthesise(coefficients, kernel, mdct.sine_window())
    torch.testing.assert_close(back, audio, atol=2e-5, rtol=0)


def test_coefficients_are_the_definition() -> None:
    """X(k) = sqrt(2/H) sum_n w(n) x(n) cos(pi/H (n + 1/2 + H/2)(k + 1/2)), n from half a block before frame t."""
    audio = noise(1, 1, HOP * 3)
    window = mdct.sine_window(HOP)
    found = mdct.analyse(audio, mdct.kernel(window))
    for frame in range(3):
        for k in range(HOP):
            total = 0.0
            for n in range(2 * HOP):
                at = frame * HOP + n - HOP // 2
                sample = float(audio[0, 0, at]) if 0 <= at < 3 * HOP else 0.0
                total += float(window[n]) * sample * math.cos(math.pi / HOP * (n + 0.5 + HOP / 2) * (k + 0.5))
            assert math.isclose(float(found[0, k, frame]), math.sqrt(2 / HOP) * total, abs_tol=1e-10)


def test_energy_is_kept_away_from_the_edges() -> None:
    audio = noise(1, 1, HOP * 20)
    audio[..., : 2 * HOP] = audio[..., -2 * HOP :] = 0
    coefficients = mdct.analyse(audio, mdct.kernel(mdct.sine_window(HOP)))
    assert math.isclose(float(coefficients.square().sum()), float(audio.square().sum()), rel_tol=1e-12)


def test_a_frame_is_centred_on_its_block() -> None:
    audio = torch.zeros(1, 1, 320 * 5, dtype=torch.float64)
    audio[..., 2 * 320 + 160] = 1.0
    energy = mdct.analyse(audio, mdct.kernel(mdct.sine_window())).square().sum(1)[0]
    assert energy.argmax() == 2
    assert energy[2] > 0.9 * energy.sum()


def test_clips_do_not_depend_on_their_batch() -> None:
    kernel = mdct.kernel(mdct.sine_window()).float()
    audio = noise(5, 1, 320 * 37).float()
    batched = mdct.analyse(audio, kernel)
    for index in range(5):
        assert torch.equal(batched[index : index + 1], mdct.analyse(audio[index : index + 1], kernel))


def test_synthesis_is_differentiable() -> None:
    window = mdct.sine_window(HOP)
    kernel = mdct.kernel(window)
    coefficients = noise(1, HOP, 4).requires_grad_()
    assert torch.autograd.gradcheck(lambda c: mdct.synthesise(c, kernel, window), (coefficients,))

"""The CQT against nnAudio's convolution, and its inverse against the audio that went in."""

from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch
from torch import Tensor

from data_specs.errors import UserError
from data_specs.representations import representation
from data_specs.representations.cqt import Cqt
from data_specs.representations.cqt_kernels import BINS, HOP, LOWEST_HZ, kernels, transform
from data_specs.representations.least_squares import conjugate_gradients
from data_specs.spec import Instrument, Rendering

SAMPLES = 192_000
SHORT = 48_000
CPU = torch.device("cpu")
PROGRAMS = {"piano": 0, "violin": 40, "trumpet": 56}


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def reference() -> Callable[[Tensor], Tensor]:
    """nnAudio's transform: float32 [B, N] -> [B, 2, K, T]."""
    from nnAudio.features.cqt import CQT1992v2

    module = CQT1992v2(
        sr=24_000,
        hop_length=100,
        fmin=130.81,
        n_bins=216,
        bins_per_octave=36,
        norm=1,
        window="hann",
        center=True,
        pad_mode="reflect",
        output_format="Complex",
        verbose=False,
    )
    return lambda audio: module(audio).permute(0, 3, 1, 2)


def noise(samples: int, seed: int = 0, clips: int = 1) -> Tensor:
    return 0.2 * torch.randn(clips, 1, samples, generator=torch.Generator().manual_seed(seed))


def band_passed(audio: Tensor, lowest: float = 150, highest: float = 8000) -> Tensor:
    spectrum = torch.fft.rfft(audio.double())
    frequencies = torch.fft.rfftfreq(audio.shape[-1], 1 / 24_000)
    spectrum[..., (frequencies < lowest) | (frequencies > highest)] = 0
    return torch.fft.irfft(spectrum, n=audio.shape[-1]).float()


def rendered(program: int, samples: int = SAMPLES) -> Tensor:
    from pipeline.render.renderer import Renderer
    from pipeline.render.soundfont import soundfont_path

    rng = np.random.default_rng(program)
    edges = np.sort(rng.choice(np.arange(1, samples // 64), 21, replace=False)) * 64
    notes = np.stack([edges[:-1], edges[1:], rng.integers(48, 73, 20), rng.integers(30, 128, 20)], 1)
    with Renderer(soundfont_path("timgm6mb"), Rendering(soundfont="timgm6mb"), 24_000) as renderer:
        return torch.from_numpy(renderer.render(notes, Instrument(name="any", program=program), samples))[None, None]


def signal(name: str, samples: int) -> Tensor:
    time = torch.arange(samples, dtype=torch.float64) / 24_000
    if name in PROGRAMS:
        return rendered(PROGRAMS[name], samples)
    if name == "noise":
        return noise(samples)
    if name == "impulses":
        audio = torch.zeros(samples)
        audio[[0, samples // 2, samples - 1]] = 1.0
        return audio[None, None]
    if name == "sweep":
        return (0.5 * torch.sin(2 * np.pi * 100 * time * (1 + 5 * time)))[None, None].float()
    return (0.5 * torch.cos(2 * np.pi * 440 * time))[None, None].float()


def decibels(original: Tensor, decoded: Tensor) -> float:
    """Signal-to-noise ratio of `decoded`."""
    error = (original.double() - decoded.double()).square().sum()
    return float(10 * torch.log10(original.double().square().sum() / error))


@pytest.mark.parametrize("samples", [SAMPLES, SHORT, 31_700])
@pytest.mark.parametrize("name", ["noise", "impulses", "sweep", "tone", *PROGRAMS])
def test_equals_nnaudio(name: str, samples: int, reference: Callable[[Tensor], Tensor]) -> None:
    audio = signal(name, samples)
    expected = reference(audio[:, 0])
    made = Cqt().encode(audio)
    assert made.shape == expected.shape == (1, 2, 216, samples // 100 + 1)
    assert made.dtype == torch.float32
    assert (made - expected).abs().max() < 2e-4 * expected.abs().max()


def test_shapes_and_lengths() -> None:
    cqt = representation("cqt")
    assert isinstance(cqt, Cqt)
    assert cqt.shape(SAMPLES) == (2, 216, 1921)
    assert cqt.frame_rate == 240
    for samples in (4_800, SHORT, SAMPLES):
        assert cqt.samples(cqt.frames(samples)) == samples
        audio = noise(samples)
        stored = cqt.encode(audio)
        assert stored.shape[1:] == cqt.shape(samples)
        assert cqt.decode(stored).shape == audio.shape


@pytest.mark.parametrize("samples", [SHORT + 1, 4_700])
def test_lengths_that_cannot_be_framed_are_refused(samples: int) -> None:
    with pytest.raises(UserError, match=f"{samples} samples cannot become cqt; give a multiple of 100 above 4719"):
        Cqt().encode(torch.zeros(1, 1, samples))


@pytest.mark.parametrize("bin_", [0, 71, 150, 215])
def test_phases_turn_forward(bin_: int) -> None:
    hertz = LOWEST_HZ * 2 ** (bin_ / 36)
    delay = 7
    audio = torch.cos(2 * np.pi * hertz * (torch.arange(SHORT, dtype=torch.float64) - delay) / 24_000).float()
    real, imaginary = Cqt().encode(audio[None, None])[0, :, bin_].double()
    frames = torch.arange(60, 400)
    expected = 2 * np.pi * hertz * (frames * HOP - delay) / 24_000
    error = torch.remainder(torch.atan2(imaginary, real)[frames] - expected + np.pi, 2 * np.pi) - np.pi
    assert error.abs().max() < 0.01


def test_the_kernels_digest_is_stable_and_of_the_values() -> None:
    bank = kernels()
    assert Cqt().digest == bank.digest
    assert len(bank.digest) == 64
    kernels.cache_clear()
    again = kernels()
    assert again is not bank
    assert again.digest == bank.digest
    assert bank.values.shape == (BINS, 2 * bank.reach)


@pytest.mark.parametrize("samples", [SHORT, 4_800])
def test_adjoint_is_exact(samples: int) -> None:
    cqt = transform(samples, CPU)
    generator = torch.Generator().manual_seed(1)
    for _ in range(3):
        audio = torch.randn(1, samples, generator=generator)
        bins = torch.randn(1, BINS, cqt.frames, dtype=torch.complex64, generator=generator)
        forward = (cqt.forward(audio).conj() * bins).real.double()
        assert forward.sum() == pytest.approx(
            (audio * cqt.adjoint(bins)).double().sum().item(), abs=1e-6 * forward.abs().sum().item()
        )


def test_approximate_inverse_is_symmetric_and_undoes_the_middle_of_a_clip() -> None:
    cqt = transform(SHORT, CPU)
    a, b = noise(SHORT, 1)[0], noise(SHORT, 2)[0]
    forward, backward = (cqt.approximate_inverse(a) * b).sum(), (a * cqt.approximate_inverse(b)).sum()
    assert forward == pytest.approx(backward.item(), rel=1e-3)
    assert (a * cqt.approximate_inverse(a)).sum() > 0
    audio = band_passed(noise(SHORT))[0]
    again = cqt.approximate_inverse(cqt.adjoint(cqt.forward(audio)))
    assert decibels(audio[:, 12_000:36_000], again[:, 12_000:36_000]) > 20


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("name", ["noise", *PROGRAMS])
def test_decodes_what_lies_within_the_bins(name: str, dtype: torch.dtype) -> None:
    audio = band_passed(signal(name, SAMPLES))
    decoded = Cqt().decode(Cqt().encode(audio).to(dtype))
    assert decoded.dtype == torch.float32
    assert decibels(audio, decoded) >= (32 if name == "noise" else 50)
    for end in (slice(0, 2400), slice(-2400, None)):  # the clip's ends are as good as they can be heard
        assert (audio - decoded)[..., end].abs().max() < 0.05 * audio.abs().max()


def test_quiet_clips_survive_half_precision() -> None:
    audio = 1e-3 * band_passed(rendered(40))
    assert decibels(audio, Cqt().decode(Cqt().encode(audio).half())) >= 25


def test_errors_in_the_bins_are_not_blown_up() -> None:
    audio = band_passed(noise(SHORT))
    stored = Cqt().encode(audio)
    disturbed = stored + 0.1 * stored.std() * torch.randn(stored.shape, generator=torch.Generator().manual_seed(3))
    assert decibels(audio, Cqt().decode(disturbed)) > 20


def test_a_clip_is_the_same_in_any_batch() -> None:
    audio = noise(SHORT, clips=10)
    stored = Cqt().encode(audio)
    decoded = Cqt().decode(stored)
    for index in (0, 3, 9):
        assert torch.equal(Cqt().encode(audio[index : index + 1])[0], stored[index])
        alone = Cqt().decode(stored[index : index + 1])[0]
        assert (alone - decoded[index]).abs().max() < 1e-4 * alone.abs().max()


def test_decoding_is_differentiable_when_asked() -> None:
    transform.cache_clear()
    with torch.inference_mode():  # what is kept from here must not forbid gradients later
        Cqt().decode(Cqt().encode(noise(9_600)))
    stored = Cqt().encode(noise(9_600)).requires_grad_()
    assert not Cqt().decode(stored).requires_grad
    weights = noise(9_600, 5)
    (Cqt().decode(stored, gradient=True) * weights).sum().backward()
    assert stored.grad is not None
    direction = torch.randn(stored.shape, generator=torch.Generator().manual_seed(6)) * stored.detach().std()
    with torch.no_grad():
        ahead, behind = (Cqt().decode(stored + h * direction) for h in (0.01, -0.01))
        expected = float(((ahead - behind).double() * weights).sum()) / 0.02
    assert float((stored.grad.double() * direction).sum()) == pytest.approx(expected, rel=0.01)


def test_silence_stays_silent_beside_sound_and_has_a_gradient() -> None:
    audio = noise(9_600, clips=2)
    audio[0] = 0
    stored = Cqt().encode(audio)
    assert not stored[0].any()
    stored.requires_grad_()
    decoded = Cqt().decode(stored, gradient=True)
    assert not decoded[0].any()
    assert decoded[1].any()
    decoded.square().sum().backward()
    assert stored.grad is not None
    assert stored.grad.isfinite().all()


def test_conjugate_gradients_solve_each_system_by_itself() -> None:
    rng = np.random.default_rng(0)
    root = rng.standard_normal((12, 12))
    matrix = torch.from_numpy(root @ root.T + np.eye(12))
    right = torch.from_numpy(rng.standard_normal((3, 12)) * [[1e-6], [1.0], [0.0]])
    solved = conjugate_gradients(lambda x: x @ matrix, right, lambda x: x / matrix.diagonal(), 12)
    assert torch.allclose(solved, torch.linalg.solve(matrix, right.T).T, rtol=1e-6, atol=1e-14)
    assert not solved[2].any()
    exact = conjugate_gradients(lambda x: x @ matrix, right, lambda x: torch.linalg.solve(matrix, x.T).T, 1)
    assert torch.allclose(exact, solved, rtol=1e-6, atol=1e-14)

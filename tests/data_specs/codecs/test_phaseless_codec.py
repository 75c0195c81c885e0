"""The phaseless codec: its figures on a fixed clip, and what makes its latents fit for small models."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from data_specs.codecs import load_codec
from data_specs.codecs.phase import stft
from data_specs.codecs.phaseless import PhaselessCodec

Phrase = Callable[..., Tensor]
FIGURES = {
    0: -24.53,
    16: -12.70,
    8: -9.26,
    4: -6.79,
}  # spectral error in dB of the clip below, by codebooks; 0 is from latents


@pytest.fixture(scope="module")
def codec() -> PhaselessCodec:
    loaded = load_codec("phaseless")
    assert isinstance(loaded, PhaselessCodec)
    return loaded


def magnitudes(audio: Tensor) -> Tensor:
    return stft(audio[0, 0], torch.hann_window(2048), 320).abs()


def spectral_error(audio: Tensor, decoded: Tensor) -> float:
    """Of magnitudes seen through another window than the codec's, relative to theirs, in dB."""
    wanted = magnitudes(audio)
    return float(20 * torch.log10((magnitudes(decoded) - wanted).norm() / wanted.norm()))


def test_figures_on_a_fixed_clip(codec: PhaselessCodec, phrase: Phrase) -> None:
    """A file that is broken, or of another fit, cannot pass: its figures would differ in the first digits."""
    audio = phrase()
    latents = codec.encode(audio)
    codes = codec.quantize(latents, 16)
    assert latents.shape == (1, 128, 600)
    assert codes.shape == (1, 16, 600)
    found = {0: spectral_error(audio, codec.decode(latents))}
    for count in (16, 8, 4):
        found[count] = spectral_error(audio, codec.decode(codec.dequantize(codes[:, :count])))
    assert found == pytest.approx(FIGURES, abs=0.3)


def test_a_held_note_holds_still(codec: PhaselessCodec) -> None:
    """The point of it: over a steady tone latents hardly move, whereas those of a lapped transform turn."""
    tone = 0.3 * torch.sin(2 * torch.pi * 311.13 * torch.arange(48_000) / 24_000)[None, None]

    def movement(latents: Tensor) -> float:
        held = latents[0, :, 20:-20]
        return float(held.diff(dim=1).norm() / held[:, 1:].norm())

    assert movement(codec.encode(tone)) < 0.05
    assert movement(load_codec("pvt").encode(tone)) > 0.5


def test_the_phase_of_the_audio_does_not_matter(codec: PhaselessCodec) -> None:
    t = torch.arange(24_000) / 24_000
    there, back = (codec.encode(0.3 * torch.sin(2 * torch.pi * 311.13 * t + phase)[None, None]) for phase in (0.0, 2.0))
    assert float((there - back)[..., 5:-5].norm() / there[..., 5:-5].norm()) < 0.05


def test_louder_is_the_same_direction(codec: PhaselessCodec, phrase: Phrase) -> None:
    quiet, loud = codec.encode(0.1 * phrase(1.0)), codec.encode(phrase(1.0))
    assert float((quiet * 10**codec.power - loud).norm() / loud.norm()) < 0.01  # what float32 leaves of silence grows


def test_gradient_at_the_phase_that_was_found(codec: PhaselessCodec, phrase: Phrase) -> None:
    """Scaling latents by a scales magnitudes by a^(1/p) and no phase, so energy grows with exponent 2 / p."""
    latents = codec.encode(phrase(1.0)).requires_grad_()
    energy = codec.decode(latents).square().sum()
    energy.backward()
    assert latents.grad is not None
    along = float((latents.grad * latents.detach()).sum())
    assert along == pytest.approx(2 / codec.power * float(energy.detach()), rel=1e-4)


def test_latents_off_the_cone_decode(codec: PhaselessCodec) -> None:
    """Output of a model need not be a spectrum; negative magnitudes count as 0."""
    noise = torch.randn(2, 128, 50, generator=torch.Generator().manual_seed(0))
    audio = codec.decode(noise)
    assert audio.shape == (2, 1, 16_000)
    assert torch.isfinite(audio).all()
    alone = codec.decode(noise[1:])
    assert torch.equal(alone[0], audio[1])

"""Sound that is damaged by a known amount: what teaches the classifier's embedding to grade faults.

Three kinds that every way of making sound has some of, none of them a codec's own. B clips, N samples.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

CLEAN_SHARE = 0.5  # of the clips
RATIO_DB = (0.0, 60.0)  # signal to damage
STEEPEST = 1.5  # of hiss: amplitude falls as frequency to the power -a, a drawn from 0 to this
GATE_DB = (-50.0, -5.0)  # below the loudest bin of a frame
FFT, HOP = 1024, 512


def damaged(audio: Tensor, level: Tensor, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Clips, some of them with damage of a kind and amount drawn for each.

    Args:
        audio: float32 [B, N].
        level: root mean square, [B], that hiss is measured against: that of a longer stretch, so that rests hiss too.
        rng: decides everything.

    Returns:
        The clips, and `level` over the root mean square of the damage in dB, [B]; infinite for clips left clean.
    """
    kinds = (hiss, grain, holes)
    kind = torch.from_numpy(rng.integers(len(kinds), size=len(audio)))
    kind[torch.from_numpy(rng.random(len(audio))) < CLEAN_SHARE] = -1
    wanted_db = rng.uniform(*RATIO_DB, len(audio)).astype(np.float32)
    out = audio.clone()
    for number, make in enumerate(kinds):
        chosen = kind == number
        if chosen.any():
            out[chosen] = make(audio[chosen], level[chosen], torch.from_numpy(wanted_db)[chosen], rng)
    return out, 20 * torch.log10(level / (out - audio).square().mean(-1).sqrt())


def hiss(audio: Tensor, level: Tensor, ratio_db: Tensor, rng: np.random.Generator) -> Tensor:
    """Added noise of a random slope."""
    noise = torch.fft.rfft(_normal(rng, audio.shape))
    slope = torch.from_numpy(rng.uniform(0, STEEPEST, (len(audio), 1)).astype(np.float32))
    coloured = torch.fft.irfft(noise * torch.arange(1, noise.shape[-1] + 1) ** -slope, n=audio.shape[-1])
    gain = level * 10 ** (-ratio_db / 20) / coloured.square().mean(-1).sqrt()
    return audio + gain[:, None] * coloured


def grain(audio: Tensor, level: Tensor, ratio_db: Tensor, rng: np.random.Generator) -> Tensor:
    """Noise that has the sound's own shape in time and frequency (after the modulated noise of ITU-T P.810).

    Frames overlap and their noises average, so there is up to 4 dB less of it than asked for.
    """
    spectrum = _spectrum(audio)
    noise = torch.complex(_normal(rng, spectrum.shape), _normal(rng, spectrum.shape)) / 2**0.5
    return _sound(spectrum * (1 + noise * 10 ** (-ratio_db / 20)[:, None, None]), audio.shape[-1])


def holes(audio: Tensor, level: Tensor, ratio_db: Tensor, rng: np.random.Generator) -> Tensor:
    """All that is weaker than a share of each frame's loudest bin is gone; how much, is drawn for itself."""
    spectrum = _spectrum(audio)
    magnitude = spectrum.abs()
    gate = torch.from_numpy(10 ** (rng.uniform(*GATE_DB, (len(audio), 1, 1)) / 20)).float()
    return _sound(spectrum * (magnitude >= gate * magnitude.amax(1, keepdim=True)), audio.shape[-1])


def _normal(rng: np.random.Generator, shape: torch.Size) -> Tensor:
    values: NDArray[np.float32] = rng.standard_normal(tuple(shape), dtype=np.float32)
    return torch.from_numpy(values)


def _spectrum(audio: Tensor) -> Tensor:
    return torch.stft(audio, FFT, HOP, window=torch.hann_window(FFT), return_complex=True)


def _sound(spectrum: Tensor, samples: int) -> Tensor:
    return torch.istft(spectrum, FFT, HOP, window=torch.hann_window(FFT), length=samples)

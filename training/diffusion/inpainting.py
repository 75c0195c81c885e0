"""Inpainting: sampling some frames of clips of continuous data while the others are given. B clips, T frames."""

import math
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from training.diffusion.noise import Noise
from training.diffusion.samplers import Callback, Denoiser, SamplerState


@dataclass(frozen=True)
class Known:
    """The given part of clips.

    Attributes:
        x0: clean data at the scale of the model, [B, ..., T], or [1, ..., T] for all clips; used where `mask` is true.
        mask: bool [T], true for the given frames.
    """

    x0: Tensor
    mask: Tensor


def keeping(denoiser: Denoiser, known: Known) -> Denoiser:
    """Return `denoiser` with its output in the given frames replaced by `known.x0`."""

    def denoise(x: Tensor, sigma: Tensor) -> Tensor:
        return torch.where(known.mask.to(x.device), known.x0.to(x), denoiser(x, sigma))

    return denoise


def sample_inpaint(
    denoiser: Denoiser,
    x: Tensor,
    sigmas: list[float],
    known: Known,
    *,
    noise: Noise,
    resamples: int = 2,
    callback: Callback | None = None,
) -> Tensor:
    """Return clips [B, ..., T] in which the frames that are not given are sampled, by Heun steps with resampling.

    At the start of a step the given frames are set to clean data plus noise of its level. Each step but the last is
    done `resamples` times; between two times, noise returns x to the level before the step, so that the generated
    frames fit the given ones (Lugmayr et al. 2022, algorithm 1). In the result the given frames equal `known.x0`.

    Args:
        denoiser: maps (x, sigma [B]) to the expected clean data.
        x: noise of standard deviation `sigmas[0]`, [B, ..., T].
        sigmas: decreasing noise levels that end in 0.
        known: the given part.
        noise: random numbers of these clips.
        resamples: number of times each step but the last is done; 1 for no resampling.
        callback: called once for each step, after its last time.
    """
    clean = known.x0.to(x).expand_as(x)
    mask = known.mask.to(x.device)
    kept = keeping(denoiser, known)

    def given(state: Tensor, sigma: float) -> Tensor:
        noisy = clean + sigma * noise.normal(tuple(x.shape[1:])).to(x) if sigma > 0 else clean
        return torch.where(mask, noisy, state)

    def denoised_at(state: Tensor, sigma: float) -> Tensor:
        return kept(state, state.new_full((state.shape[0],), sigma))

    steps = len(sigmas) - 1
    for step, (sigma, sigma_next) in enumerate(pairwise(sigmas), start=1):
        for again in reversed(range(resamples if sigma_next > 0 else 1)):
            state = given(x, sigma)
            denoised = denoised_at(state, sigma)
            d = (state - denoised) / sigma
            x = state + (sigma_next - sigma) * d
            if sigma_next > 0:
                d_next = (x - denoised_at(x, sigma_next)) / sigma_next
                x = state + (sigma_next - sigma) * (d + d_next) / 2
            if again:
                x = x + math.sqrt(sigma**2 - sigma_next**2) * noise.normal(tuple(x.shape[1:])).to(x)
        if callback is not None:
            callback(SamplerState(step, steps, x, denoised))
    return torch.where(mask, clean, x)

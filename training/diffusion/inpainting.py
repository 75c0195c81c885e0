"""Inpainting: sampling a part of a clip while the rest is given, for any sampler of continuous data."""

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
        x0: clean data as the paradigm takes it, [B, ..., T] or [1, ..., T].
        mask: bool [T], true at the given frames.
    """

    x0: Tensor
    mask: Tensor


def keeping(denoiser: Denoiser, known: Known) -> Denoiser:
    """Return a denoiser whose estimates equal `known.x0` in the given frames."""

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
    """Sample the frames that are not given, by Heun steps with resampling.

    At every noise level the given frames are clean data plus noise of that level, so the denoiser sees them beside the
    frames it generates. Each step is repeated `resamples` times with new noise in between, which harmonizes both parts
    (Lugmayr et al. 2022, algorithm 1). The given frames of the result equal `known.x0`.

    Args:
        denoiser: maps (x, sigma [B]) to the expected clean data.
        x: noise of standard deviation `sigmas[0]`, [B, ..., T].
        sigmas: decreasing noise levels that end in 0.
        known: the given part.
        noise: draws for the given frames and for resampling.
        resamples: passes over each step; 1 disables resampling.
        callback: called after each step.
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

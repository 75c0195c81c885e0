"""Modified discrete cosine transform (Princen, Johnson and Bradley 1987) as one matrix product per frame.

Hop H, window 2H. A clip is padded by H/2 on both sides, so that N samples give exactly N / H frames, each centred on
its block of H samples. B batch, N samples, T = N / H frames, C coefficients.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional

HOP = 320


def sine_window(hop: int = HOP) -> Tensor:
    """Return the window sin(pi (n + 1/2) / 2H) of hop H, float64 [2H]."""
    return torch.sin(math.pi * (torch.arange(2 * hop, dtype=torch.float64) + 0.5) / (2 * hop))


def vorbis_window(hop: int = HOP) -> Tensor:
    """Return the window sin(pi/2 sin^2(pi (n + 1/2) / 2H)) of hop H, float64 [2H].

    Its slope is steeper and its far side lobes are lower than those of the sine window.
    """
    return torch.sin(math.pi / 2 * sine_window(hop).square())


def kaiser_bessel_window(alpha: float, hop: int = HOP) -> Tensor:
    """Return the Kaiser-Bessel-derived window of hop H, float64 [2H].

    Its rising half is the root of the normalized cumulative sum of a Kaiser window of H + 1 points, beta = pi `alpha`.
    """
    kaiser = torch.kaiser_window(hop + 1, periodic=False, beta=math.pi * alpha, dtype=torch.float64)
    rising = (kaiser.cumsum(0)[:hop] / kaiser.sum()).sqrt()
    return torch.cat([rising, rising.flip(0)])


def kernel(window: Tensor) -> Tensor:
    """Return the MDCT analysis matrix, float64 [2H, H], of a window [2H] with w(n)^2 + w(n + H)^2 = 1.

    Its transpose synthesizes. Column k is w(n) sqrt(2/H) cos(pi/H (n + 1/2 + H/2) (k + 1/2)). The columns, shifted by
    all multiples of H, are orthonormal.
    """
    hop = len(window) // 2
    n = torch.arange(2 * hop, dtype=torch.float64, device=window.device)[:, None] + 0.5 + hop / 2
    k = torch.arange(hop, dtype=torch.float64, device=window.device)[None, :] + 0.5
    return window[:, None] * math.sqrt(2 / hop) * torch.cos(math.pi / hop * n * k)


def analyse(audio: Tensor, kernel: Tensor) -> Tensor:
    """Return the coefficients [B, C, N / H] of audio [B, 1, N], N a multiple of H, by an analysis matrix [2H, C].

    Clips are computed one by one, so that bits do not depend on the batch.
    """
    hop = kernel.shape[0] // 2
    padded = functional.pad(audio[:, 0], (hop // 2, hop // 2))
    frames = [clip.unfold(0, 2 * hop, hop) @ kernel for clip in padded]
    return torch.stack(frames).transpose(1, 2)


def synthesise(coefficients: Tensor, kernel: Tensor, window: Tensor) -> Tensor:
    """Return audio [B, 1, T H] of coefficients [B, C, T] by overlap-add; differentiable.

    `kernel` [2H, C] is the synthesis matrix, not transposed, and `window` [2H] the window in it. The first and the last
    H/2 samples belong to one frame only. Their time-reversed alias is in the padding, so they are scaled by the squared
    window and divided by it here.
    """
    hop = kernel.shape[0] // 2
    frames = coefficients.transpose(1, 2) @ kernel.T
    head, tail = functional.pad(frames[..., :hop], (0, 0, 0, 1)), functional.pad(frames[..., hop:], (0, 0, 1, 0))
    signal = (head + tail).flatten(1)[:, hop // 2 : -(hop // 2)]
    gain = signal.new_ones(signal.shape[-1])
    square = window.to(gain).square()
    gain[: hop // 2] /= square[hop // 2 : hop]
    gain[-(hop // 2) :] /= square[hop : hop + hop // 2]
    return (signal * gain)[:, None]

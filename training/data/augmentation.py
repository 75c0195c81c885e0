"""Coarser control curves in training, as drawn ones are: the network is told how coarse. B clips, N rows, L frames.

As for the augmentation labels of Karras et al. (2022, appendix F.2), strength 0 stands for curves as they are, and
that is what a sampler gives.
"""

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as nnf
from torch import Tensor

from data_specs.arrays import Float64, Int64
from data_specs.controls import PITCH, VELOCITY
from training.conditioning import ControlLayout
from training.data.shuffle import uniform

BRIGHTNESS = "brightness"
RESTING = (VELOCITY, PITCH)  # 0 in rests, which stay as they are
AUGMENTED = (*RESTING, BRIGHTNESS)
WIDEST_S = 0.5  # width of the filters at strength 1


def median_filtered(curve: Tensor, width: int) -> Tensor:
    """Return the median of `width` values around each of [L], with the ends repeated."""
    return _extended(curve, width).unfold(0, width, 1).median(-1).values


def decimated(curve: Tensor, width: int) -> Tensor:
    """Return [L] with every `width`-th value held until the next."""
    return curve[torch.arange(len(curve), device=curve.device) // width * width]


def blurred(curve: Tensor, width: int) -> Tensor:
    """Return the mean of `width` values around each of [L], with the ends repeated."""
    return nnf.avg_pool1d(_extended(curve, width)[None], width, 1)[0]


def piecewise_linear(curve: Tensor, width: int) -> Tensor:
    """Return straight lines between every `width`-th value of [L]; the last value ends the last line."""
    last = len(curve) - 1
    frames = torch.arange(len(curve), device=curve.device)
    start = frames // width * width
    end = (start + width).clamp(max=last)
    return torch.lerp(curve[start], curve[end], (frames - start) / (end - start).clamp(min=1))


FILTERS: tuple[Callable[[Tensor, int], Tensor], ...] = (median_filtered, decimated, blurred, piecewise_linear)


def strengths(positions: Int64, seed: int, share: float) -> Float64:
    """Return the strength of each clip [B]: uniform in (0, 1] for a `share` of them, else 0."""
    chosen = uniform(seed, "augment", positions) < share
    return np.where(chosen, 1 - uniform(seed, "augment strength", positions), 0.0)


def augment_curves(
    controls: Tensor, layout: ControlLayout, strength: Float64, positions: Int64, seed: int,
    frame_rate: float,
) -> None:  # fmt: skip
    """Filter the curves of `controls` [B, N, L] in place, each by a filter of its own.

    Args:
        strength: of each clip [B]; the width of its filters is this share of half a second, and at least 2 frames.
        positions: of each clip [B]: names of its random numbers.
        frame_rate: frames a second.
    """
    for name in (name for name in AUGMENTED if name in layout.names):
        row = layout.slice(name).start
        kinds = (uniform(seed, "augment filter", name, positions) * len(FILTERS)).astype(np.int64)
        for clip in np.flatnonzero(strength):
            curve = controls[clip, row]
            width = max(2, round(WIDEST_S * frame_rate * float(strength[clip])))
            if name in RESTING:
                curve.copy_(torch.where(curve > 0, FILTERS[kinds[clip]](without_rests(curve), width), curve))
            else:
                curve.copy_(FILTERS[kinds[clip]](curve, width))


def without_rests(curve: Tensor) -> Tensor:
    """Return [L] with the value before each rest held through it; the first one also before it."""
    sounding = curve > 0
    frames = torch.arange(len(curve), device=curve.device)
    before = torch.where(sounding, frames, -1).cummax(0).values
    return curve[torch.where(before < 0, sounding.int().argmax(), before)]


def _extended(curve: Tensor, width: int) -> Tensor:
    """Return [L + width - 1]: the ends of [L] repeated, so that a window of `width` fits around every value."""
    return nnf.pad(curve[None], ((width - 1) // 2, width // 2), mode="replicate")[0]

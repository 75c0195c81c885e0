"""Curve augmentation: training on filtered, coarser curves, which are more like drawn ones.

The strength of the filter, in 0..1, becomes a further control row. It is a label as in Karras et al. (2022, appendix
F.2): 0 for unchanged curves, which is the strength in sampling. B clips, N control rows, L frames.
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
RESTING = (VELOCITY, PITCH)  # controls that are 0 in rests; rests are not changed
AUGMENTED = (*RESTING, BRIGHTNESS)
WIDEST_S = 0.5  # seconds, width of the filters at strength 1


def median_filtered(curve: Tensor, width: int) -> Tensor:
    """Return the running median of `curve` [L] over `width` frames, with the end values repeated beyond the ends.

    For an even `width` it is the lower of the two middle values.
    """
    return _extended(curve, width).unfold(0, width, 1).median(-1).values


def decimated(curve: Tensor, width: int) -> Tensor:
    """Return `curve` [L] in which the first and every `width`-th value after it is held until the next of them."""
    return curve[torch.arange(len(curve), device=curve.device) // width * width]


def blurred(curve: Tensor, width: int) -> Tensor:
    """Return the running mean of `curve` [L] over `width` frames, with the end values repeated beyond the ends."""
    return nnf.avg_pool1d(_extended(curve, width)[None], width, 1)[0]


def piecewise_linear(curve: Tensor, width: int) -> Tensor:
    """Return the linear interpolation [L] of the values of `curve` at frames 0, `width`, 2 `width`, ... and L - 1."""
    last = len(curve) - 1
    frames = torch.arange(len(curve), device=curve.device)
    start = frames // width * width
    end = (start + width).clamp(max=last)
    return torch.lerp(curve[start], curve[end], (frames - start) / (end - start).clamp(min=1))


FILTERS: tuple[Callable[[Tensor, int], Tensor], ...] = (median_filtered, decimated, blurred, piecewise_linear)


def strengths(positions: Int64, seed: int, share: float) -> Float64:
    """Return the strength of augmentation of each clip [B]: with probability `share` uniform in (0, 1], else 0.

    It is a function of `seed`, the seed of the run, and `positions` [B] of the clips in the run.
    """
    chosen = uniform(seed, "augment", positions) < share
    return np.where(chosen, 1 - uniform(seed, "augment strength", positions), 0.0)


def augment_curves(
    controls: Tensor, layout: ControlLayout, strength: Float64, positions: Int64, seed: int,
    frame_rate: float,
) -> None:  # fmt: skip
    """Filter the curves of the controls AUGMENTED in place, each curve of each clip by a random one of FILTERS.

    Controls that the layout lacks are left out. Rests (0) of velocity and pitch remain 0.

    Args:
        controls: stacked controls, float32 [B, N, L], before control dropout.
        layout: order of the controls.
        strength: strength of each clip [B], in 0..1; the filter width is `strength` * WIDEST_S seconds, at least 2
            frames; a clip with 0 is unchanged.
        positions: position of each clip in the run [B]; with `seed` they determine the filters.
        seed: seed of the run.
        frame_rate: frames per second.
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
    """Return `curve` [L] with rests (0) filled by the last value before them.

    A rest at the start takes the first value after it. A curve of rests alone remains 0.
    """
    sounding = curve > 0
    frames = torch.arange(len(curve), device=curve.device)
    before = torch.where(sounding, frames, -1).cummax(0).values
    return curve[torch.where(before < 0, sounding.int().argmax(), before)]


def _extended(curve: Tensor, width: int) -> Tensor:
    """Return `curve` [L] with its end values repeated, [L + width - 1]: a window of `width` for each frame."""
    return nnf.pad(curve[None], ((width - 1) // 2, width // 2), mode="replicate")[0]

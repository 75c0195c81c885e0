"""The published controls of one clip as attributes."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Controls:
    """Features of one clip, float32."""

    velocity: np.ndarray  # [T], velocity / 127, 0 in rests
    chroma: np.ndarray  # [T], pitch class / 11, 0 in rests
    instruments: np.ndarray  # [I, T], 1 for the clip's instrument, rests included

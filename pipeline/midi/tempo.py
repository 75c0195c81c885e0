"""From ticks to seconds."""

from collections.abc import Sequence
from fractions import Fraction

import numpy as np

_DEFAULT_TEMPO = 500_000  # microseconds a quarter note


class TempoMap:
    """Seconds of ticks, from the tempo events of all tracks.

    Where several fall on one tick the last counts, by track, then by place in the track. An event of 0 microseconds
    has no meaning and is passed over.
    """

    def __init__(self, tempos: Sequence[tuple[int, int]] | np.ndarray, ticks_per_quarter: int) -> None:
        events = np.asarray(tempos, dtype=np.int64).reshape(-1, 2)
        events = events[events[:, 1] > 0]
        events = events[np.argsort(events[:, 0], kind="stable")]
        is_last = np.append(events[1:, 0] != events[:-1, 0], True)[: len(events)]
        events = np.concatenate([[[0, _DEFAULT_TEMPO]], events[is_last]])
        if len(events) > 1 and events[1, 0] == 0:
            events = events[1:]
        self.ticks = events[:, 0]
        self.tick_s = events[:, 1] / (1e6 * ticks_per_quarter)
        self.seconds = np.concatenate([[0.0], np.cumsum(np.diff(self.ticks) * self.tick_s[:-1])])

    def __call__(self, ticks: np.ndarray) -> np.ndarray:
        """Ticks int64 [n] to seconds float64 [n]."""
        at = np.searchsorted(self.ticks, ticks, side="right") - 1
        return self.seconds[at] + (ticks - self.ticks[at]) * self.tick_s[at]


class FrameClock:
    """Seconds of ticks where a tick is a fixed part of an SMPTE frame: tempo events do not count."""

    def __init__(self, tick_s: Fraction) -> None:
        self.tick_s = tick_s

    def __call__(self, ticks: np.ndarray) -> np.ndarray:
        """Ticks int64 [n] to seconds float64 [n]."""
        return ticks * self.tick_s.numerator / self.tick_s.denominator


Clock = TempoMap | FrameClock

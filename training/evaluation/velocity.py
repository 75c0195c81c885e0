"""From the level a note reaches to the velocity it was played with: a scale fitted on real clips.

How loud a velocity sounds depends on the instrument, the key and the SoundFont; the scale is fitted per instrument,
ln(velocity) = a + b * level + c[key], on clips whose controls are known. n strikes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.evaluation.features import FRAME_S, FrameFeatures
from training.evaluation.targets import NOBODY, ControlTargets

REACH_S = 0.2  # a note's peak lies within this of its onset
LOWEST_KEY, KEYS = 48, 25
RIDGE = 1.0  # of keys: one rarely heard stays near the instrument's mean
FEWEST_STRIKES = 20  # of an instrument, to fit its scale


@dataclass(frozen=True)
class Strikes:
    """What is heard after each strike a clip asks for."""

    level_db: NDArray[np.float64]  # [n], the peak
    key: NDArray[np.int64]  # [n], index of the tracked pitch, -1 where none is tracked
    velocity: NDArray[np.float64]  # [n], asked, in 0..1
    instrument: NDArray[np.int64]  # [n], asked, -1 for none


def strikes(heard: FrameFeatures, clip: int, wanted: ControlTargets) -> Strikes:
    """Peak level and key after each strike of clip number `clip`."""
    first = np.clip(np.round(wanted.strikes / FRAME_S).astype(int), 0, heard.frames - 1)
    end = np.minimum(wanted.strike_end, wanted.strikes + REACH_S)
    last = np.clip(np.round(end / FRAME_S).astype(int), first + 1, heard.frames)
    spans = [slice(a, b) for a, b in zip(first.tolist(), last.tolist(), strict=True)]
    level = np.array([heard.level_db[clip, span].max() for span in spans])
    keys = np.array([_key(heard.midi[clip, span][heard.voiced[clip, span]]) for span in spans], dtype=int)
    return Strikes(level, keys, wanted.strike_velocity, wanted.instrument[first])


def _key(midi: NDArray[np.float32]) -> int:
    if not len(midi):
        return NOBODY
    key = round(float(np.median(midi))) - LOWEST_KEY
    return key if 0 <= key < KEYS else NOBODY


@dataclass(frozen=True)
class VelocityScale:
    """One scale an instrument: [I] offsets and slopes, [I, 25] keys. NaN where too few strikes were heard."""

    offset: NDArray[np.float64]
    slope: NDArray[np.float64]
    keys: NDArray[np.float64]

    @classmethod
    def fit(cls, heard: FrameFeatures, wanted: Sequence[ControlTargets], instruments: int) -> "VelocityScale":
        """The scale of real clips that were played as their controls ask."""
        every = [strikes(heard, clip, one) for clip, one in enumerate(wanted)]
        level, key, velocity, instrument = (
            np.concatenate([getattr(one, name) for one in every])
            for name in ("level_db", "key", "velocity", "instrument")
        )
        offset, slope, keys = np.full(instruments, np.nan), np.full(instruments, np.nan), np.zeros((instruments, KEYS))
        for number in range(instruments):
            chosen = instrument == number
            if chosen.sum() < FEWEST_STRIKES:
                continue
            columns = np.concatenate(
                [np.ones((chosen.sum(), 1)), level[chosen, None], key[chosen, None] == np.arange(KEYS)], axis=1
            ).astype(np.float64)
            ridge = RIDGE * np.diag([0.0, 0.0, *np.ones(KEYS)])
            solution = np.linalg.solve(columns.T @ columns + ridge, columns.T @ np.log(velocity[chosen]))
            offset[number], slope[number], keys[number] = solution[0], solution[1], solution[2:]
        return cls(offset, slope, keys)

    def velocity(self, level_db: NDArray[Any], key: NDArray[Any], instrument: NDArray[Any]) -> NDArray[np.float64]:
        """Velocity in 0..1 of levels [n] heard on keys [n] of instruments [n]; NaN for an instrument without scale.

        An unknown instrument (-1) is read on the mean of all scales.
        """
        known = instrument >= 0
        bend = np.where(known & (key >= 0), self.keys[instrument, key], 0.0)
        offset = np.where(known, self.offset[instrument], np.nanmean(self.offset))
        slope = np.where(known, self.slope[instrument], np.nanmean(self.slope))
        return np.clip(np.exp(offset + slope * level_db + bend), 0.0, 1.0)

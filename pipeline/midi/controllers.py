"""Pitch bend and volume of the tracks of a MIDI file, as steps over time.

Both belong to a channel. Semitones of bend follow registered parameter 0, the bend sensitivity, by default 2. Volume
(controller 7) and expression (11) attenuate by 40 log10(value / 127) dB each (General MIDI Level 1 developer
guidelines), as velocity does, so their product scales velocities. Controller 121 resets bend and expression.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

BEND = 128  # beside the controllers, whose numbers are 0..127
_DATA, _VOLUME, _EXPRESSION, _DATA_FINE, _RESET = 6, 7, 11, 38, 121
_UNREGISTERED, _PARAMETER_FINE, _PARAMETER = (98, 99), 100, 101
CONTROLLERS = frozenset((_DATA, _VOLUME, _EXPRESSION, _DATA_FINE, *_UNREGISTERED, _PARAMETER_FINE, _PARAMETER, _RESET))
_CENTER, _SENSITIVITY, _DEFAULT_VOLUME, _MOST = 8192, 2.0, 100, 127

Float64 = NDArray[np.float64]


@dataclass(frozen=True)
class Controllers:
    """Steps of one track: from `seconds[k]` on, `bend[k]` and `volume[k]` apply; the first step is at -infinity."""

    seconds: Float64  # [n]
    bend: Float64  # [n], semitones
    volume: Float64  # [n], 0..1: product of volume and expression


def apply_controllers(moves: Iterable[tuple[int, int, int]]) -> list[tuple[int, float, float]]:
    """Return (tick, semitones of bend, volume) after each change of a channel; the first before everything.

    Args:
        moves: (tick, controller or BEND, value) in order.
    """
    value, sensitivity, parameter = _CENTER, _SENSITIVITY, [_MOST, _MOST]  # 127, 127: none selected
    volume, expression = _DEFAULT_VOLUME, _MOST

    def state() -> tuple[float, float]:
        return (value - _CENTER) / _CENTER * sensitivity, volume * expression / _MOST**2

    steps = [(-1, *state())]
    for tick, controller, number in moves:
        number = min(number, _MOST) if controller != BEND else number
        if controller == BEND:
            value = number
        elif controller == _VOLUME:
            volume = number
        elif controller == _EXPRESSION:
            expression = number
        elif controller == _RESET:
            value, expression, parameter = _CENTER, _MOST, [_MOST, _MOST]
        elif controller in _UNREGISTERED:
            parameter = [_MOST, _MOST]
        elif controller in (_PARAMETER, _PARAMETER_FINE):
            parameter[controller == _PARAMETER_FINE] = number
        elif parameter == [0, 0]:
            sensitivity = number + sensitivity % 1 if controller == _DATA else int(sensitivity) + number / 100
        if state() != steps[-1][1:]:
            steps.append((tick, *state()))
    return steps

"""Pitch bend and volume of the tracks of a MIDI file, as step functions of time.

Both are states of a channel. Registered parameter 0, the bend sensitivity, sets the semitones of a full bend, by
default 2. Volume (controller 7) and expression (11) change the level by 40 log10(value / 127) dB each (General MIDI
Level 1 developer guidelines). Velocity does the same, so their product scales velocities. Controller 121 resets bend
and expression.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from data_specs.arrays import Float64

BEND = 128  # number for pitch bend; those of controllers are 0..127
_DATA, _VOLUME, _EXPRESSION, _DATA_FINE, _RESET = 6, 7, 11, 38, 121
_UNREGISTERED, _PARAMETER_FINE, _PARAMETER = (98, 99), 100, 101
CONTROLLERS = frozenset((_DATA, _VOLUME, _EXPRESSION, _DATA_FINE, *_UNREGISTERED, _PARAMETER_FINE, _PARAMETER, _RESET))
_CENTER, _SENSITIVITY, _DEFAULT_VOLUME, _MOST = 8192, 2.0, 100, 127


@dataclass(frozen=True)
class Controllers:
    """Step functions of one track: `bend[k]` and `volume[k]` apply from `seconds[k]` on. `seconds[0]` is -infinity."""

    seconds: Float64  # [n]
    bend: Float64  # [n], semitones
    volume: Float64  # [n], 0..1: product of volume and expression


def apply_controllers(moves: Iterable[tuple[int, int, int]]) -> list[tuple[int, float, float]]:
    """Return the steps of bend and volume of one channel as (tick, bend in semitones, volume in 0..1), in time order.

    The first step has tick -1 and the default state: bend 0, controller 7 at 100 and controller 11 at 127. Each further
    step differs from the one before, so there may be fewer steps than moves. Several steps may have one tick.

    Args:
        moves: (tick, controller or BEND, value) of the channel, in time order. Of BEND the value is 0..16383, with 8192
            for no bend. Values of controllers above 127 count as 127.
    """
    value, sensitivity, parameter = _CENTER, _SENSITIVITY, [_MOST, _MOST]  # parameter 127, 127: none is selected
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

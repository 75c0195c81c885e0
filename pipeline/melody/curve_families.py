"""Families of random curves over a clip, each drawn from uniform numbers and described by a few parameters.

A curve maps seconds to 0..1. Its parameters are plain numbers, so that a table of clips can hold them.
"""

import math
from collections.abc import Callable, Sequence
from hashlib import blake2b
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

Seconds = NDArray[np.float64]
Parameters = dict[str, Any]
T = TypeVar("T")

_LOWEST_HZ, _HIGHEST_HZ = 1 / 16, 2.0  # of sines
_LEAST_CHANGE = 0.3  # between the ends of a ramp, between base and peak of an arch


class Draws:
    """Independent uniform numbers, a function of `key` and of the order in which they are drawn."""

    def __init__(self, key: str) -> None:
        self._key = key
        self._count = 0

    def uniform(self, low: float = 0.0, high: float = 1.0) -> float:
        """Return a number in [low, high), rounded to 6 decimals so that tables hold it exactly as it is used."""
        word = blake2b(f"{self._key}/{self._count}".encode(), digest_size=8).digest()
        self._count += 1
        return round(low + (high - low) * (int.from_bytes(word, "little") >> 11) / 2**53, 6)

    def log_uniform(self, low: float, high: float) -> float:
        """Return a number in [low, high) whose logarithm is uniform."""
        return round(low * (high / low) ** self.uniform(), 6)

    def integer(self, low: int, high: int) -> int:
        """Return an integer in low..high, both included."""
        return min(high, low + int(self.uniform() * (high - low + 1)))

    def choice(self, options: Sequence[T]) -> T:
        """Return one of `options`."""
        return options[self.integer(0, len(options) - 1)]


class Family(NamedTuple):
    """A family: `draw(draws, length in seconds)` gives parameters, `evaluate(parameters, seconds [n])` values [n]."""

    draw: Callable[[Draws, float], Parameters]
    evaluate: Callable[[Parameters, Seconds], Seconds]


def draw_curve(families: Sequence[str], draws: Draws, length: float) -> Parameters:
    """Return the parameters of one curve of `length` seconds, its family included."""
    family = draws.choice(families)
    return {"family": family, **FAMILIES[family].draw(draws, length)}


def evaluate_curve(parameters: Parameters, seconds: Seconds) -> Seconds:
    """Return the values in 0..1 of a drawn curve at `seconds`, both [n]."""
    return np.clip(FAMILIES[parameters["family"]].evaluate(parameters, seconds), 0.0, 1.0)


def _draw_sine(draws: Draws, length: float) -> Parameters:
    return {"hz": draws.log_uniform(_LOWEST_HZ, _HIGHEST_HZ), "phase": draws.uniform(0, 2 * math.pi)}


def _sine(parameters: Parameters, seconds: Seconds) -> Seconds:
    return 0.5 - 0.5 * np.sin(2 * math.pi * parameters["hz"] * seconds + parameters["phase"])


def _draw_ends(draws: Draws) -> tuple[float, float]:
    """Return two levels at least `_LEAST_CHANGE` apart, in either order."""
    change = draws.uniform(_LEAST_CHANGE, 1)
    low = draws.uniform(0, 1 - change)
    ends = (low, round(low + change, 6))
    return ends if draws.uniform() < 0.5 else ends[::-1]


def _draw_ramp(draws: Draws, length: float) -> Parameters:
    start, end = _draw_ends(draws)
    duration = draws.uniform(length / 8, length)
    return {"from": start, "to": end, "start": draws.uniform(0, length - duration), "seconds": duration}


def _ramp(parameters: Parameters, seconds: Seconds) -> Seconds:
    start, duration = parameters["start"], parameters["seconds"]
    return np.interp(seconds, [start, start + duration], [parameters["from"], parameters["to"]])


def _draw_arch(draws: Draws, length: float) -> Parameters:
    base, peak = _draw_ends(draws)
    return {"base": base, "peak": peak, "at": draws.uniform(0, length), "seconds": draws.uniform(length / 8, length)}


def _arch(parameters: Parameters, seconds: Seconds) -> Seconds:
    """Raised cosine of `seconds` from base over peak to base, centered `at`."""
    angle = np.clip((seconds - parameters["at"]) / parameters["seconds"], -0.5, 0.5) * 2 * math.pi
    return parameters["base"] + (parameters["peak"] - parameters["base"]) * (0.5 + 0.5 * np.cos(angle))


def _draw_steps(draws: Draws, length: float) -> Parameters:
    count = draws.integer(2, 8)
    times = sorted(draws.uniform(0, length) for _ in range(count - 1))
    return {"times": [0.0, *times], "levels": [draws.uniform() for _ in range(count)]}


def _steps(parameters: Parameters, seconds: Seconds) -> Seconds:
    latest = np.searchsorted(parameters["times"], seconds, side="right") - 1
    return np.asarray(parameters["levels"])[np.maximum(latest, 0)]


def _draw_walk(draws: Draws, length: float) -> Parameters:
    interval = draws.log_uniform(0.125, 1.0)
    levels = [draws.uniform()]
    for _ in range(math.ceil(length / interval)):
        step = levels[-1] + draws.uniform(-0.5, 0.5)
        levels.append(round(min(abs(step), 2 - abs(step)), 6))  # reflected at 0 and 1
    return {"interval": interval, "levels": levels}


def _walk(parameters: Parameters, seconds: Seconds) -> Seconds:
    times = np.arange(len(parameters["levels"])) * parameters["interval"]
    return np.interp(seconds, times, parameters["levels"])


FAMILIES: dict[str, Family] = {
    "sine": Family(_draw_sine, _sine),
    "ramp": Family(_draw_ramp, _ramp),
    "arch": Family(_draw_arch, _arch),
    "steps": Family(_draw_steps, _steps),
    "walk": Family(_draw_walk, _walk),
}

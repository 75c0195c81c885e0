"""Families of random curves over a clip, each drawn from uniform numbers and described by a few parameters.

A curve maps time in seconds from the start of the clip to values in 0..1. Its parameters are JSON values, so that
clips.parquet can store them.
"""

import math
from collections.abc import Callable, Sequence
from hashlib import blake2b
from typing import Any, NamedTuple, TypeVar

import numpy as np

from data_specs.arrays import Float64

Parameters = dict[str, Any]
T = TypeVar("T")

_LOWEST_HZ, _HIGHEST_HZ = 1 / 16, 2.0  # frequency of a sine
_LEAST_CHANGE = 0.3  # least difference between the ends of a ramp, and between base and peak of an arch


class Draws:
    """Sequence of independent uniform random numbers. Number i is a hash of `key` and i, the same on every machine."""

    def __init__(self, key: str) -> None:
        self._key = key
        self._count = 0

    def uniform(self, low: float = 0.0, high: float = 1.0) -> float:
        """Return the next number, uniform in low..high and rounded to 6 decimals.

        A table that stores 6 decimals therefore holds exactly the number that was used.
        """
        word = blake2b(f"{self._key}/{self._count}".encode(), digest_size=8).digest()
        self._count += 1
        return round(low + (high - low) * (int.from_bytes(word, "little") >> 11) / 2**53, 6)

    def log_uniform(self, low: float, high: float) -> float:
        """Return a random number in low..high, both above 0, whose logarithm is uniform, rounded to 6 decimals."""
        return round(low * (high / low) ** self.uniform(), 6)

    def integer(self, low: int, high: int) -> int:
        """Return a random integer in low..high, both included, with equal probabilities."""
        return min(high, low + int(self.uniform() * (high - low + 1)))

    def choice(self, options: Sequence[T]) -> T:
        """Return a random one of `options`, each with equal probability."""
        return options[self.integer(0, len(options) - 1)]


class Family(NamedTuple):
    """A family of curves.

    Attributes:
        draw: (random numbers, length of the clip in seconds) -> parameters of one curve.
        evaluate: (parameters, times [n] in seconds from the start of the clip) -> values of the curve [n], not clipped.
    """

    draw: Callable[[Draws, float], Parameters]
    evaluate: Callable[[Parameters, Float64], Float64]


def draw_curve(families: Sequence[str], draws: Draws, length: float) -> Parameters:
    """Choose one of `families` at random and draw the parameters of a curve from it, for a clip of `length` seconds.

    Returns:
        The parameters of the curve, with the name of its family under `family`.
    """
    family = draws.choice(families)
    return {"family": family, **FAMILIES[family].draw(draws, length)}


def evaluate_curve(parameters: Parameters, seconds: Float64) -> Float64:
    """Return the values [n] of the curve that `draw_curve` drew, clipped to 0..1.

    Args:
        parameters: the result of `draw_curve`.
        seconds: times [n] in seconds from the start of the clip.
    """
    return np.clip(FAMILIES[parameters["family"]].evaluate(parameters, seconds), 0.0, 1.0)


def _draw_sine(draws: Draws, length: float) -> Parameters:
    return {"hz": draws.log_uniform(_LOWEST_HZ, _HIGHEST_HZ), "phase": draws.uniform(0, 2 * math.pi)}


def _sine(parameters: Parameters, seconds: Float64) -> Float64:
    return 0.5 - 0.5 * np.sin(2 * math.pi * parameters["hz"] * seconds + parameters["phase"])


def _draw_ends(draws: Draws) -> tuple[float, float]:
    """Return two random levels in 0..1 that differ by at least `_LEAST_CHANGE`; either may be the larger."""
    change = draws.uniform(_LEAST_CHANGE, 1)
    low = draws.uniform(0, 1 - change)
    ends = (low, round(low + change, 6))
    return ends if draws.uniform() < 0.5 else ends[::-1]


def _draw_ramp(draws: Draws, length: float) -> Parameters:
    start, end = _draw_ends(draws)
    duration = draws.uniform(length / 8, length)
    return {"from": start, "to": end, "start": draws.uniform(0, length - duration), "seconds": duration}


def _ramp(parameters: Parameters, seconds: Float64) -> Float64:
    start, duration = parameters["start"], parameters["seconds"]
    return np.interp(seconds, [start, start + duration], [parameters["from"], parameters["to"]])


def _draw_arch(draws: Draws, length: float) -> Parameters:
    base, peak = _draw_ends(draws)
    return {"base": base, "peak": peak, "at": draws.uniform(0, length), "seconds": draws.uniform(length / 8, length)}


def _arch(parameters: Parameters, seconds: Float64) -> Float64:
    """Return the values [n] at the times `seconds` [n] of a raised cosine from base to peak and back to base.

    The parameters `at` and `seconds` are the time of the peak and the duration of the whole arch, in seconds. Before
    and after the arch the value is the base.
    """
    angle = np.clip((seconds - parameters["at"]) / parameters["seconds"], -0.5, 0.5) * 2 * math.pi
    return parameters["base"] + (parameters["peak"] - parameters["base"]) * (0.5 + 0.5 * np.cos(angle))


def _draw_steps(draws: Draws, length: float) -> Parameters:
    count = draws.integer(2, 8)
    times = sorted(draws.uniform(0, length) for _ in range(count - 1))
    return {"times": [0.0, *times], "levels": [draws.uniform() for _ in range(count)]}


def _steps(parameters: Parameters, seconds: Float64) -> Float64:
    latest = np.searchsorted(parameters["times"], seconds, side="right") - 1
    return np.asarray(parameters["levels"])[np.maximum(latest, 0)]


def _draw_walk(draws: Draws, length: float) -> Parameters:
    interval = draws.log_uniform(0.125, 1.0)
    levels = [draws.uniform()]
    for _ in range(math.ceil(length / interval)):
        step = levels[-1] + draws.uniform(-0.5, 0.5)
        levels.append(round(min(abs(step), 2 - abs(step)), 6))  # reflected at 0 and 1
    return {"interval": interval, "levels": levels}


def _walk(parameters: Parameters, seconds: Float64) -> Float64:
    times = np.arange(len(parameters["levels"])) * parameters["interval"]
    return np.interp(seconds, times, parameters["levels"])


FAMILIES: dict[str, Family] = {
    "sine": Family(_draw_sine, _sine),
    "ramp": Family(_draw_ramp, _ramp),
    "arch": Family(_draw_arch, _arch),
    "steps": Family(_draw_steps, _steps),
    "walk": Family(_draw_walk, _walk),
}

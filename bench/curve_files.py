"""Curve files of the benchmark of drawn curves, deterministic: `python -m bench.curve_files`.

There are eight families of 15 files of 4 s, five for each instrument. Their parameters differ from those of the curves
in datasets. Pitch varies within notes in `freehand`, `gesture` and `vibrato`.
"""

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from data_specs.io.files import Json

FOLDER = Path(__file__).parents[1] / "training" / "evaluation" / "benchmark_curves"
SECONDS, EACH, SEED = 4.0, 15, 2026
INSTRUMENTS = ("piano", "violin", "trumpet")
LOWEST, HIGHEST = 48, 72  # MIDI note numbers, the range of the datasets
REST = "rest"
END = 3.6  # seconds, end of the last note

Points = list[list[Any]]
Drawn = tuple[Points, Points, Points, bool]  # velocity, pitch, brightness, and whether pitch is linear


def melody(rng: np.random.Generator, notes: int) -> Points:
    """Return pitches of `notes` notes from random times on, as [time in s, MIDI note number], and a rest at END."""
    times = np.sort(rng.choice(np.arange(1, 13), notes - 1, replace=False)) * 0.28
    pitches = rng.integers(LOWEST + 2, HIGHEST - 1, notes)
    for number in range(1, notes):
        if pitches[number] == pitches[number - 1]:
            pitches[number] += 1
    return [[time, int(pitch)] for time, pitch in zip([0.0, *times], pitches, strict=True)] + [[END, REST]]


def line(values: list[float], times: list[float] | None = None) -> Points:
    """Return points with `values` at `times` in s, and an unconditioned point (None) at END.

    For None, the times are evenly spaced from 0 to END.
    """
    at = np.linspace(0, END, len(values)) if times is None else times
    return [[time, value] for time, value in zip(at, values, strict=True)] + [[END, None]]


def plateaus(levels: list[float], seconds: float) -> Points:
    """Return points that hold each of `levels` for `seconds` s, and an unconditioned point at END."""
    times = [time for n in range(len(levels)) for time in (n * seconds, (n + 1) * seconds - 0.01)]
    return line([level for level in levels for _ in range(2)], times)


def stairs(rng: np.random.Generator) -> Drawn:
    return plateaus(rng.uniform(0.15, 0.95, 5).tolist(), 0.72), melody(rng, 5), line([1, 1]), False


def ramps(rng: np.random.Generator) -> Drawn:
    low, high = rng.uniform(0.1, 0.3), rng.uniform(0.7, 1)
    ends = [low, high] if rng.random() < 0.5 else [high, low]
    return line(ends), melody(rng, 4), line(ends[::-1]), False


def arches(rng: np.random.Generator) -> Drawn:
    top, low = rng.uniform(0.7, 1), rng.uniform(0.1, 0.3)
    arch = low + (top - low) * np.sin(np.pi * np.linspace(0, 1, 17))
    return line(arch.tolist()), melody(rng, 4), line((1.1 - arch).tolist()), False


def smooth(rng: np.random.Generator, count: int, low: float, high: float) -> np.ndarray:
    """Return a smoothed random walk [count], scaled so that its least value is `low` and its largest is `high`."""
    walk = np.convolve(np.cumsum(rng.standard_normal(count + 8)), np.hanning(9), mode="valid")
    walk = (walk - walk.min()) / np.ptp(walk)
    return low + (high - low) * walk


def freehand(rng: np.random.Generator) -> Drawn:
    middle = rng.uniform(LOWEST + 5, HIGHEST - 5)
    pitch = [*line(smooth(rng, 24, middle - 4, middle + 4).tolist())[:-1], [END, REST]]
    return line(smooth(rng, 24, 0.2, 0.95).tolist()), pitch, line(smooth(rng, 24, 0, 1).tolist()), True


def gesture(rng: np.random.Generator) -> Drawn:
    """Return syllables as in speech: 3.6 per second, each with a peak of level and a falling or rising pitch."""
    velocity, pitch, base = [], [], rng.uniform(LOWEST + 4, HIGHEST - 8)
    for number in range(12):
        start = number * 0.28
        peak, slope = rng.uniform(0.4, 0.95), rng.uniform(-3, 3)
        at = base + 5 * (1 - number / 12) + rng.uniform(-1, 1)
        velocity += [[start, 0.15], [start + 0.06, peak], [start + 0.24, 0.2]]
        pitch += [[start, at], [start + 0.24, min(at + slope, HIGHEST)]]
    return [*velocity, [END, None]], [*pitch, [END, REST]], line([0.4, 1, 0.5]), True


def vibrato(rng: np.random.Generator) -> Drawn:
    centre, hertz, depth = rng.uniform(LOWEST + 2, HIGHEST - 2), rng.uniform(4, 7), rng.uniform(0.2, 0.8)
    times = np.arange(0.0, END, 0.04)
    values = centre + depth * np.minimum(1, times / 1.5) * np.sin(2 * np.pi * hertz * times)
    pitch = [[time, value] for time, value in zip(times, values, strict=True)] + [[END, REST]]
    return line([0.5, 0.8, 0.6]), pitch, line([0.6, 0.9]), True


def silence(rng: np.random.Generator) -> Drawn:
    """Return three notes between long rests."""
    pitch: Points = [[0.0, REST]]
    velocity: Points = [[0.0, 0]]
    for start in (0.3 + rng.uniform(0, 0.3), 1.6 + rng.uniform(0, 0.4), 2.8 + rng.uniform(0, 0.3)):
        stop, level = start + rng.uniform(0.25, 0.6), rng.uniform(0.4, 0.9)
        pitch += [[start, int(rng.integers(LOWEST, HIGHEST + 1))], [stop, REST]]
        velocity += [[start, 0], [start, level], [stop, level], [stop, 0]]
    return velocity, pitch, line([1, 1]), False


def extremes(rng: np.random.Generator) -> Drawn:
    """Return the limits of the range of each control, with jumps between them."""
    low = rng.random() < 0.5
    pitch = [[number * 0.6, LOWEST if (number % 2 == 0) == low else HIGHEST] for number in range(6)]
    levels = [0.06 if rng.random() < 0.5 else 1.0 for _ in range(6)]
    return plateaus(levels, 0.6), [*pitch, [END, REST]], line([0, 0, 1, 1], [0, 1.79, 1.8, END - 0.01]), False


FAMILIES: dict[str, Callable[[np.random.Generator], Drawn]] = {
    "steps": stairs,
    "ramps": ramps,
    "arches": arches,
    "freehand": freehand,
    "gesture": gesture,
    "vibrato": vibrato,
    "silence": silence,
    "extremes": extremes,
}


def curve_file(family: str, number: int) -> Json:
    """Return the content of curve file `number` (0, 1, ...) of a family, a function of both; with three decimals."""
    rng = np.random.default_rng([SEED, list(FAMILIES).index(family), number])
    velocity, pitch, brightness, linear = FAMILIES[family](rng)
    return {
        "version": 1,
        "velocity": _rounded(velocity),
        "pitch": {"points": _rounded(pitch), "interpolation": "linear" if linear else "step"},
        "brightness": _rounded(brightness),
        "instruments": INSTRUMENTS[number % 3],
    }


def _rounded(points: Points) -> Points:
    return [[round(float(time), 3), round(float(x), 3) if isinstance(x, float | int) else x] for time, x in points]


def main() -> int:
    """Write EACH files of each family to --out, by default the folder of the benchmark; return the exit status 0."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=FOLDER, metavar="FOLDER", help="output folder (the benchmark's)")
    out = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    for family in FAMILIES:
        for number in range(EACH):
            text = json.dumps(curve_file(family, number), separators=(",", ":"))
            (out / f"{family}-{number:02d}.json").write_text(text + "\n")
    print(f"{len(FAMILIES) * EACH} files in {out}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

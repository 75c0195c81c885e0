"""Clips of the benchmark of drawn curves, rendered by the synthesizer: `python -m bench.curve_reference`.

They are the upper reference of the benchmark: `make evaluate PRESET=curves RUN=curve-reference`.
"""

import argparse
from pathlib import Path

import numpy as np
import torch

from data_specs.controls.automation import BLOCK, Automation
from data_specs.controls.curve_files import read_curves
from data_specs.controls.curves import Curves
from data_specs.controls.pitch import PITCH_ORIGIN, PITCH_SPAN
from data_specs.rates import SAMPLE_RATE
from data_specs.spec import Spec, load_spec
from pipeline.render.renderer import Renderer
from pipeline.render.soundfont import soundfont_path
from training.evaluation.curve_benchmark import SAMPLES, curve_paths
from training.sampling.outputs import write_wav

JUMP = 0.7  # semitones between blocks above which a note starts, as in the adherence measures
REPEAT = 12.0  # largest bend in semitones


def performance(spec: Spec, curves: Curves) -> tuple[np.ndarray, Automation]:
    """Return the notes and the automation that render curves of all four controls.

    A note starts where sound starts or pitch jumps by more than JUMP semitones. Bends are limited to REPEAT semitones.
    Where brightness is unconditioned it is 1.

    Args:
        spec: spec with expression.
        curves: curves of velocity, pitch, brightness and one instrument; the instrument is constant.

    Returns:
        Notes, int32 [n, 4]: onset and offset in samples, MIDI pitch and velocity; and the automation by blocks.
    """
    blocks = SAMPLES // BLOCK
    names = [one.name for one in spec.instruments]
    arrays = curves.arrays(names, SAMPLES, blocks, BLOCK, ("velocity", "pitch", "brightness", "instruments"))
    velocity, pitch = arrays["velocity"].astype(float), PITCH_ORIGIN + PITCH_SPAN * arrays["pitch"].astype(float)
    sounding = (arrays["pitch"] > 0) & (velocity > 0)
    starts = sounding & ~np.concatenate([[False], sounding[:-1]])
    starts[1:] |= sounding[1:] & sounding[:-1] & (np.abs(np.diff(pitch)) > JUMP)
    first = np.flatnonzero(starts)
    ends = np.flatnonzero(sounding & ~np.concatenate([sounding[1:], [False]])) + 1
    last = np.minimum(ends[np.searchsorted(ends, first, side="right")], np.append(first[1:], blocks))
    instrument = int(arrays["instruments"].max(1).argmax())
    keys = np.round(pitch[first]).astype(int)
    level = np.clip(np.where(sounding, velocity, 1 / 127), 1 / 127, 1.0)
    bend = np.zeros(blocks)
    for key, start, stop in zip(keys, first, last, strict=True):
        bend[start:stop] = np.clip(pitch[start:stop] - key, -REPEAT, REPEAT)
    brightness = np.where(arrays["brightness"] >= 0, arrays["brightness"], 1.0).astype(float)
    assert spec.expression is not None
    depth = spec.expression.brightness.depth_cents[names[instrument]]
    struck = np.maximum(1, np.floor(127 * level[first] + 0.5)).astype(int)
    notes = np.stack([first * BLOCK, last * BLOCK, keys, struck], 1).astype(np.int32)
    playing = np.full(len(first), instrument)
    return notes, Automation(level, bend, brightness, -depth * (1 - brightness), playing)


def main() -> int:
    """Render every curve file of the benchmark to <name>.wav in --out, and return the exit status 0."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--out", type=Path, default=Path("curve-reference"), metavar="FOLDER", help="output folder (curve-reference)"
    )
    out = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    spec = load_spec("expressive")
    with Renderer(soundfont_path(spec.rendering.soundfont), spec.rendering, SAMPLE_RATE) as renderer:
        for path in curve_paths():
            notes, automation = performance(spec, read_curves(path))
            instruments = [spec.instruments[number] for number in automation.instruments]
            audio = renderer.render_expressive(notes, instruments, SAMPLES, automation)
            write_wav(out / f"{path.stem}.wav", torch.from_numpy(audio), SAMPLE_RATE)
    print(out)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

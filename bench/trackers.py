"""Pitch trackers and curves from recordings on synthetic voices of known pitch: `python -m bench.trackers`.

Voices of 8 s have 24 partials with formants, notes from MIDI 48 to 69 with rests, vibrato of 30 cents, and a range of
levels of 24 dB. White noise is added. N samples at 24 kHz, T frames of 320 samples.
"""

import argparse
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch

from bench.table import interleaved
from data_specs.analysis import YIN
from data_specs.analysis.descriptors import AudioAnalysis
from data_specs.analysis.recording_curves import HOP, TRACKERS, curves_from_audio
from data_specs.analysis.swift_f0 import swift_pitch
from data_specs.arrays import Float32, Float64
from data_specs.cli import Parser, integer, run
from data_specs.controls.pitch import PITCH_ORIGIN, PITCH_SPAN
from data_specs.rates import SAMPLE_RATE

SECONDS, PARTIALS = 8, 24
FORMANTS = ((600, 120), (1100, 150), (2600, 250))  # Hz: centre and width
SNRS = (None, 20, 10)  # dB
FRAMES = SECONDS * SAMPLE_RATE // HOP
FOUR = ("loudness", "pitch", "centroid", "noisiness")
Frames = Float64


@dataclass(frozen=True)
class Voice:
    """Audio [N], and its pitch in MIDI note numbers and level in dB (-24 to 0) at frames [T], both NaN in rests."""

    audio: Float64
    pitch: Frames
    level: Frames

    def noisy(self, snr_db: float | None, seed: int) -> Float32:
        """Return the audio with white noise, a function of `seed`; `snr_db` None is for no noise.

        The power of the noise is `snr_db` below the mean power of the frames that are not rests.
        """
        if snr_db is None:
            return self.audio.astype(np.float32)
        sounding = np.repeat(np.isfinite(self.pitch), HOP)
        deviation = np.sqrt(np.mean(self.audio[sounding] ** 2) / 10 ** (snr_db / 10))
        return (self.audio + np.random.default_rng(seed).normal(0, deviation, len(self.audio))).astype(np.float32)


def voice(seed: int) -> Voice:
    """Return a voice of 8 s of random notes, a function of the seed."""
    rng = np.random.default_rng(seed)
    count = SECONDS * SAMPLE_RATE
    seconds = np.arange(count) / SAMPLE_RATE
    midi, level, gain = np.full(count, np.nan), np.full(count, np.nan), np.zeros(count)
    start = 0.2
    while start < SECONDS - 0.6:
        stop = min(start + rng.uniform(0.3, 0.9), SECONDS - 0.1)
        here = (seconds >= start) & (seconds < stop)
        inside = seconds[here] - start
        midi[here] = rng.integers(48, 70) + 0.3 * np.sin(2 * np.pi * 5.5 * inside)
        level[here] = -rng.uniform(0, 24)
        gain[here] = 10 ** (level[here] / 20) * np.minimum(1, np.minimum(inside, stop - start - inside) / 0.02)
        start = stop + (rng.uniform(0.15, 0.5) if rng.random() < 0.4 else 0.0)
    hertz = 440 * 2 ** ((np.nan_to_num(midi, nan=48.0) - 69) / 12)
    phase = 2 * np.pi * np.cumsum(hertz) / SAMPLE_RATE
    audio = np.zeros(count)
    for k in range(1, PARTIALS + 1):
        formants = sum(np.exp(-(((k * hertz - centre) / width) ** 2) / 2) for centre, width in FORMANTS)
        audio += np.where(k * hertz < SAMPLE_RATE / 2, (0.05 + formants) / k**0.5, 0.0) * np.sin(k * phase)
    return Voice(0.1 * gain * audio, midi[::HOP], level[::HOP])


def tracked(audio: Float32, tracker: str) -> Frames:
    """Return the pitch of `audio` [N] by a tracker of TRACKERS, in MIDI note numbers [T], NaN where unvoiced."""
    if tracker == YIN:
        return AudioAnalysis(torch.from_numpy(audio), HOP).pitch[0].numpy().astype(np.float64)
    return swift_pitch(audio, HOP, FRAMES).astype(np.float64)


def measure(voices: list[Voice], snr_db: float | None, tracker: str) -> dict[str, float]:
    """Return the accuracy of a tracker, and of curves made with it at sharpness 1, by name.

    Args:
        voices: voices, over whose frames the figures are computed; the correlation is a mean over voices.
        snr_db: ratio of signal to noise in dB; None for no noise.
        tracker: one of TRACKERS.

    Returns:
        Shares (0 to 1), cents and a correlation. "RPA" is the share of sounding frames within 50 cents, whose median
            error
        is "median cents"; "false" is the share of rests with a pitch.
    """
    parts, correlations = [], []
    for seed, one in enumerate(voices):
        audio = one.noisy(snr_db, seed)
        curves = curves_from_audio(audio, ("velocity", "pitch"), sharpness=1.0, tracker=tracker)
        found = curves.arrays((), len(audio), FRAMES, HOP, ("velocity", "pitch"))
        parts.append((one.pitch, tracked(audio, tracker), found["pitch"]))
        heard = np.isfinite(one.pitch) & (found["velocity"] > 0)
        correlations.append(np.corrcoef(one.level[heard], found["velocity"][heard])[0, 1])
    true, pitch, drawn = map(np.concatenate, zip(*parts, strict=True))
    known = np.isfinite(true)
    told = known & (drawn > 0)
    cents = 100 * np.abs(pitch - true)[known]
    curve_cents = 100 * np.abs(drawn * PITCH_SPAN + PITCH_ORIGIN - true)[told]
    return {
        "RPA": float((cents <= 50).mean()),
        "median cents": float(np.median(cents[cents <= 50])),
        "false": float(np.isfinite(pitch[~known]).mean()),
        "curve: frames with a pitch": told.sum() / known.sum(),
        "curve: of those within 50 cents": float((curve_cents <= 50).mean()),
        "curve: median cents": float(np.median(curve_cents)),
        "curve: correlation of velocity and level": float(np.mean(correlations)),
    }


def table(count: int, repeats: int) -> str:
    """Return the results for `count` voices, and the least times of `repeats` for one voice, as Markdown."""
    voices = [voice(seed) for seed in range(count)]
    rows = {(snr, tracker): measure(voices, snr, tracker) for snr in SNRS for tracker in TRACKERS}
    names = list(next(iter(rows.values())))
    lines = [f"| noise | tracker | {' | '.join(names)} |", "|---" * (2 + len(names)) + "|"]
    for (snr, tracker), found in rows.items():
        cells = " | ".join(f"{found[name]:.{1 if 'median' in name else 3}f}" for name in names)
        lines.append(f"| {'none' if snr is None else f'{snr} dB'} | {tracker} | {cells} |")
    audio = voices[0].noisy(None, 0)

    def four() -> None:
        analysis = AudioAnalysis(torch.from_numpy(audio), HOP)
        for name in FOUR:
            getattr(analysis, name)

    def pitch(tracker: str) -> None:
        tracked(audio, tracker)

    actions = {", ".join(FOUR): four, **{name: partial(pitch, name) for name in TRACKERS}}
    timings = interleaved(actions, repeats, warm_ups=0)
    lines += ["", *(f"{name}: {1e3 * timings.least(name):.0f} ms for {SECONDS} s" for name in actions)]
    return "\n".join(lines) + "\n"


def _table(arguments: argparse.Namespace) -> int:
    torch.set_num_threads(1)
    with torch.inference_mode():
        print(table(integer("VOICES", arguments.voices), integer("REPEATS", arguments.repeats)), end="")
    return 0


def main() -> int:
    """Print the tables of accuracy and time, and return the exit status."""
    parser = Parser(prog="python -m bench.trackers", description=__doc__)
    parser.add_argument("--voices", default="8", metavar="N", help="number of voices (8)")
    parser.add_argument("--repeats", default="5", metavar="N", help="repeats, of which the least time is used (5)")
    parser.set_defaults(command=_table)
    return run(parser, None)


if __name__ == "__main__":
    raise SystemExit(main())

"""Expression inside notes: dynamics, glides, vibrato, brightness and instrument changes of one clip.

Every curve is a function of (seed, clip id), with one value per synthesizer block of 64 samples. n notes, B blocks.
"""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_specs.controls.automation import Automation
from data_specs.spec import SYNTH_BLOCK, ClipSpec, ExpressionSpec, Instrument
from pipeline.melody.curve_families import Draws, draw_curve, evaluate_curve
from pipeline.melody.windows import OFFSET, ONSET, PITCH, VELOCITY, Notes

MAX_BEND = 24  # semitones: the wheel sensitivity
_MAX_VELOCITY = 127

Float64 = NDArray[np.float64]
Parameters = dict[str, Any]


def draw_expression(
    spec: ExpressionSpec, seed: int, clip_id: str, notes: Notes, instrument: int, instruments: int, clip: ClipSpec
) -> Parameters:
    """Return the parameters of a clip's curves, as JSON values; notes are counted from 0.

    velocity, brightness: a curve (`draw_curve`), brightness None where the filter stays open. glides:
    [note, semitones, seconds]. vibratos: [note, hz, cents, seconds after the onset]. relay: [note, instrument].
    """

    def draws(purpose: str) -> Draws:
        return Draws(f"{seed}/{clip_id}/{purpose}")

    relay = _draw_relay(spec.relay.share, draws("relay"), len(notes), instrument, instruments)
    glides = _draw_glides(spec, draws("glide"), notes, {note for note, _ in relay}, clip.sample_rate)
    shade = draws("brightness")
    shaded = shade.uniform() < spec.brightness.share
    return {
        "velocity": draw_curve(spec.velocity.families, draws("velocity"), clip.seconds),
        "brightness": draw_curve(spec.brightness.families, shade, clip.seconds) if shaded else None,
        "glides": glides,
        "vibratos": _draw_vibratos(spec, draws("vibrato"), notes, glides, clip.sample_rate),
        "relay": relay,
    }


def _draw_relay(share: float, draws: Draws, notes: int, instrument: int, instruments: int) -> list[list[int]]:
    """Return one to three [note, new instrument] in a `share` of clips."""
    if draws.uniform() >= share or instruments < 2 or notes < 2:
        return []
    changes = []
    for note in sorted({draws.integer(1, notes - 1) for _ in range(draws.integer(1, 3))}):
        instrument = (instrument + draws.integer(1, instruments - 1)) % instruments
        changes.append([note, instrument])
    return changes


def _draw_glides(
    spec: ExpressionSpec, draws: Draws, notes: Notes, other_instrument: set[int], rate: int
) -> list[list[float]]:
    """Return [note, semitones from the note's pitch at its onset, seconds] in a share of the legato notes."""
    legato = notes[1:, ONSET] == notes[:-1, OFFSET]
    interval = notes[:-1, PITCH] - notes[1:, PITCH]
    candidates = np.flatnonzero(legato & (interval != 0) & (np.abs(interval) <= MAX_BEND)) + 1
    glides = []
    for note in candidates.tolist():
        chosen, seconds = draws.uniform() < spec.glide.share, draws.uniform(*spec.glide.seconds)
        longest = round(0.8 * int(notes[note, OFFSET] - notes[note, ONSET]) / rate, 6)  # the pitch is reached
        if chosen and note not in other_instrument:
            glides.append([note, int(interval[note - 1]), min(seconds, longest)])
    return glides


def _draw_vibratos(
    spec: ExpressionSpec, draws: Draws, notes: Notes, glides: list[list[float]], rate: int
) -> list[list[float]]:
    """Return [note, hz, cents, start] in a share of the notes that last for the delay and one period."""
    glide_ends = {note: seconds for note, _, seconds in glides}
    vibratos = []
    for note, length in enumerate(((notes[:, OFFSET] - notes[:, ONSET]) / rate).tolist()):
        chosen, hz, cents = draws.uniform() < spec.vibrato.share, *(draws.uniform(*b) for b in _bounds(spec))
        start = max(spec.vibrato.delay, glide_ends.get(note, 0.0))
        if chosen and length >= start + 1 / hz:
            vibratos.append([note, hz, cents, start])
    return vibratos


def _bounds(spec: ExpressionSpec) -> tuple[tuple[float, float], tuple[float, float]]:
    return spec.vibrato.hz, spec.vibrato.cents


def automate(
    spec: ExpressionSpec,
    drawn: Parameters,
    notes: Notes,
    instrument: int,
    instruments: tuple[Instrument, ...],
    clip: ClipSpec,
) -> tuple[Notes, Automation]:
    """Return the notes as struck and the automation, from the parameters of `draw_expression`.

    The level is d(t) = song velocity x curve / 127, within 1/127..1. A note is struck at round(127 d) of its onset.
    """
    blocks = np.arange(clip.samples // SYNTH_BLOCK, dtype=np.float64)
    seconds: Float64 = blocks * (SYNTH_BLOCK / clip.sample_rate)
    first, last = notes[:, ONSET] // SYNTH_BLOCK, notes[:, OFFSET] // SYNTH_BLOCK
    current = np.maximum(np.searchsorted(first, blocks, side="right") - 1, 0)  # the note that started last
    gain = 1 - spec.velocity.depth * (1 - evaluate_curve(drawn["velocity"], seconds))
    level = np.clip(notes[current, VELOCITY] * gain / _MAX_VELOCITY, 1 / _MAX_VELOCITY, 1.0)
    struck = notes.copy()
    struck[:, VELOCITY] = np.floor(_MAX_VELOCITY * level[first] + 0.5)
    playing = np.full(len(notes), instrument)
    for note, successor in drawn["relay"]:
        playing[note:] = successor
    brightness = np.ones(len(blocks))
    if drawn["brightness"] is not None:
        brightness = evaluate_curve(drawn["brightness"], seconds)
    depth = np.array([spec.brightness.depth_cents.get(one.name, 0) for one in instruments], np.float64)
    cutoff = -depth[playing[current]] * (1 - brightness)
    return struck, Automation(level, _bend(drawn, first, last, seconds), brightness, cutoff, playing)


def _bend(drawn: Parameters, first: NDArray[np.int32], last: NDArray[np.int32], seconds: Float64) -> Float64:
    """Return semitones off the struck pitch, [B]."""
    bend = np.zeros(len(seconds))
    for note, semitones, duration in drawn["glides"]:
        span = slice(first[note], last[note])
        bend[span] += semitones * np.maximum(1 - (seconds[span] - seconds[first[note]]) / duration, 0)
    for note, hz, cents, start in drawn["vibratos"]:
        span = slice(first[note], last[note])
        phase = 2 * math.pi * hz * np.maximum(seconds[span] - seconds[first[note]] - start, 0)
        bend[span] += cents / 100 * np.sin(phase)
    return bend


def separate_repeats(notes: Notes, clip: ClipSpec) -> Notes:
    """Return the notes with a rest of `min_rest_samples` between consecutive notes of equal pitch.

    Under a moving velocity nothing else tells them apart. A note too short to give up the rest is merged with its
    successor.
    """
    kept: list[list[int]] = []
    for onset, offset, pitch, velocity in notes.tolist():
        if kept and kept[-1][PITCH] == pitch and onset - kept[-1][OFFSET] < clip.min_rest_samples:
            shortened = onset - clip.min_rest_samples
            if shortened - kept[-1][ONSET] < clip.min_note_samples:
                kept[-1][OFFSET] = offset
                continue
            kept[-1][OFFSET] = shortened
        kept.append([onset, offset, pitch, velocity])
    return np.array(kept, notes.dtype).reshape(-1, 4)

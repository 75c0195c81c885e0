"""Expression inside notes: dynamics, glides, vibrato, brightness and instrument changes of one clip.

The random parameters are fixed by the spec, the clip's notes and instruments, the seed and the clip id. Evaluated
curves have one value per synthesizer block of 64 samples. In shapes, n is the number of notes and B that of blocks.
"""

import math
from typing import Any

import numpy as np

from data_specs.arrays import Float64, Int32
from data_specs.controls.automation import Automation
from data_specs.spec import SYNTH_BLOCK, ClipSpec, ExpressionSpec, Instrument
from pipeline.melody.curve_families import Draws, draw_curve, evaluate_curve
from pipeline.melody.windows import OFFSET, ONSET, PITCH, VELOCITY, Notes

MAX_BEND = 24  # semitones: range of the pitch wheel to either side
_MAX_VELOCITY = 127

Parameters = dict[str, Any]


def draw_expression(
    spec: ExpressionSpec, seed: int, clip_id: str, notes: Notes, instrument: int, instruments: int, clip: ClipSpec
) -> Parameters:
    """Return random parameters of a clip's expression, fixed by the seed, the clip id and the other arguments.

    Args:
        spec: probabilities and ranges of the parameters.
        notes: [n, 4], times in samples.
        instrument: index of the instrument that plays the first note.
        instruments: number of instruments of the dataset.
        clip: length and sample rate of the clip.

    Returns:
        JSON values; notes are counted from 0.
        `velocity`: parameters of a curve, see `draw_curve`.
        `brightness`: the same, or None for a clip whose filter stays open.
        `glides`: list of [note, semitones above its pitch at which it starts, seconds until it reaches its pitch].
        `vibratos`: list of [note, hz, cents to either side, seconds from onset to start].
        `relay`: list of [note from which another instrument plays, index of that instrument], in time order.
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
    """Return one to three instrument changes [first note, new instrument] with probability `share`, else none.

    With fewer than two instruments or notes there are none.

    Args:
        notes: number of notes.
        instrument: index of the instrument before the first change.
        instruments: number of instruments.
    """
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
    """Return glides [note, semitones, seconds] of legato notes, each chosen with probability `spec.glide.share`.

    A note is legato if it starts at the end of the note before. It glides from that note's pitch, `semitones` above its
    own (negative if below), to its own pitch within `seconds`, at most 0.8 of its length. Notes of the same pitch as
    the one before, more than 24 semitones away from it, or in `other_instrument` get no glide.

    Args:
        notes: [n, 4], times in samples at `rate`.
        other_instrument: numbers of the notes at which the instrument changes.
        rate: sample rate in Hz.
    """
    legato = notes[1:, ONSET] == notes[:-1, OFFSET]
    interval = notes[:-1, PITCH] - notes[1:, PITCH]
    candidates = np.flatnonzero(legato & (interval != 0) & (np.abs(interval) <= MAX_BEND)) + 1
    glides = []
    for note in candidates.tolist():
        chosen, seconds = draws.uniform() < spec.glide.share, draws.uniform(*spec.glide.seconds)
        longest = round(
            0.8 * int(notes[note, OFFSET] - notes[note, ONSET]) / rate, 6
        )  # so that the note reaches its own pitch
        if chosen and note not in other_instrument:
            glides.append([note, int(interval[note - 1]), min(seconds, longest)])
    return glides


def _draw_vibratos(
    spec: ExpressionSpec, draws: Draws, notes: Notes, glides: list[list[float]], rate: int
) -> list[list[float]]:
    """Return vibratos [note, hz, cents, start] of notes, each chosen with probability `spec.vibrato.share`.

    `start` is in seconds after the onset: the spec's delay or the end of the note's glide, whichever is later. A note
    that ends less than one period after the start gets no vibrato.

    Args:
        notes: [n, 4], times in samples at `rate`.
        glides: the result of `_draw_glides`.
        rate: sample rate in Hz.
    """
    glide_ends = {note: seconds for note, _, seconds in glides}
    vibratos = []
    for note, length in enumerate(((notes[:, OFFSET] - notes[:, ONSET]) / rate).tolist()):
        chosen = draws.uniform() < spec.vibrato.share
        hz, cents = draws.uniform(*spec.vibrato.hz), draws.uniform(*spec.vibrato.cents)
        start = max(spec.vibrato.delay, glide_ends.get(note, 0.0))
        if chosen and length >= start + 1 / hz:
            vibratos.append([note, hz, cents, start])
    return vibratos


def automate(
    spec: ExpressionSpec,
    drawn: Parameters,
    notes: Notes,
    instrument: int,
    instruments: tuple[Instrument, ...],
    clip: ClipSpec,
) -> tuple[Notes, Automation]:
    """Evaluate the parameters that `draw_expression` returned for a clip.

    At each block, c is the velocity curve (0..1) and v the velocity of the note that started last (before the first
    onset, the first note). The level is d = v (1 - depth (1 - c)) / 127, limited to 1/127..1, with the spec's depth.

    Args:
        drawn: the result of `draw_expression`.
        notes: int32 [n, 4] with the velocities of the song; times in samples, multiples of 64.
        instrument: index of the instrument that plays until the first change.
        instruments: all instruments of the dataset.

    Returns:
        A copy of the notes [n, 4] with the velocity round(127 d) at their onset, and the automation of all blocks.
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


def _bend(drawn: Parameters, first: Int32, last: Int32, seconds: Float64) -> Float64:
    """Return the deviation from the struck pitch in semitones at each block, [B]; 0 without glide or vibrato.

    Args:
        drawn: the result of `draw_expression`.
        first, last: blocks of the onset and of the offset of each note, [n].
        seconds: time of each block in seconds from the start of the clip, [B].
    """
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
    """Return a copy of the notes with a rest of at least `min_rest_samples` between successive notes of one pitch.

    Where velocity moves within notes, nothing else shows that there are two. The earlier note is shortened. If it would
    become shorter than `min_note_samples`, it is instead merged with the later one and keeps its own velocity, so there
    may be fewer notes than before.

    Args:
        notes: [n, 4] in time order, not overlapping; times in samples.
        clip: holds both limits.
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

"""Cutting of a recording into events by activity: stretches in which its level is high enough.

Audio is float32 [N] with N samples at 24 kHz; F counts frames of 10 ms (240 samples).
"""

from typing import NamedTuple

import numpy as np

from data_specs.arrays import Float32, Float64
from data_specs.controls.curves import true_spans
from data_specs.rates import SAMPLE_RATE
from data_specs.spec import ClipSpec, RecordingsSpec

FRAME = 240  # samples
LOUD_PERCENTILE = 95  # percentile of the levels above FLOOR_DB that is taken for the level of the loud frames
FLOOR_DB = -70.0  # re full scale; below are digital silence and the noise of good converters
BEFORE, AFTER = 480, 2400  # samples kept before and after the active frames of an event: its attack and its decay
FADE = 240  # samples that are faded at both ends of a clip, to avoid clicks
CLIPPED_LEVEL = 0.999
CLIPPED_RUN = 3  # least number of successive samples at full scale; shorter runs are peaks of a normalized file

SILENT, SHORT, CLIPPED = "silent recording", "event too short", "clipped event"


class Event(NamedTuple):
    """Samples `start` to `stop` (exclusive) of a recording at 24 kHz.

    `active` is the number of samples of all active frames that overlap the event, a multiple of 240; a frame that the
    event cuts counts whole.
    """

    start: int
    stop: int
    active: int


def events(audio: Float32, clip: ClipSpec, settings: RecordingsSpec) -> list[Event]:
    """Return the stretches of a recording [N] that may become clips, in order of time, none longer than a clip.

    A frame is active if its level is above both -70 dB and the level of the loud frames minus `range_db`. The level of
    the loud frames is the 95th percentile of the levels above -70 dB. Active stretches with a pause of less than
    `pause_seconds` between them are one event. An event also has up to 20 ms before and 100 ms after its active frames,
    but no frame of another active stretch. An event longer than a clip is cut into events of one clip's length and a
    shorter rest. The list is empty if no frame is above -70 dB.
    """
    level = frame_levels(audio)
    loud = level[level > FLOOR_DB]
    if not len(loud):
        return []
    active = level > max(FLOOR_DB, float(np.percentile(loud, LOUD_PERCENTILE)) - settings.range_db)
    pause = settings.pause_seconds * SAMPLE_RATE
    merged: list[list[int]] = []
    for first, last in true_spans(active):
        if merged and first * FRAME - merged[-1][1] < pause:
            merged[-1][1] = last * FRAME
        else:
            merged.append([first * FRAME, last * FRAME])
    found = []
    for number, (first, last) in enumerate(merged):
        before = merged[number - 1][1] if number else 0
        after = merged[number + 1][0] if number + 1 < len(merged) else len(audio)
        start, stop = max(before, first - BEFORE), min(after, last + AFTER, len(audio))
        for at in range(start, stop, clip.samples):
            end = min(at + clip.samples, stop)
            found.append(Event(at, end, FRAME * int(active[at // FRAME : -(-end // FRAME)].sum())))
    return found


def frame_levels(audio: Float32) -> Float64:
    """Return the root mean square of each frame in dB re full scale, float64 [F], at least -120.

    The mean of the whole audio [N] is subtracted first. The last frame is padded with zeros.
    """
    centred = audio.astype(np.float64) - audio.mean(dtype=np.float64)
    padded = np.pad(centred, (0, -len(centred) % FRAME)).reshape(-1, FRAME)
    return np.asarray(10 * np.log10(np.square(padded).mean(axis=1) + 1e-12))


def cut(audio: Float32, start: int, stop: int) -> Float32:
    """Return samples `start` to `stop` (exclusive) of a recording [N], minus the mean of the whole recording.

    Values are clipped to -1..1. Both ends then have a linear fade of 240 samples. Of a piece shorter than 480 samples,
    each half has the quieter part of such a fade.
    """
    piece = np.clip(audio[start:stop] - audio.mean(dtype=np.float64).astype(np.float32), -1, 1)
    ramp = (np.arange(min(FADE, len(piece) // 2), dtype=np.float32) + 0.5) / FADE
    piece[: len(ramp)] *= ramp
    piece[len(piece) - len(ramp) :] *= ramp[::-1]
    return piece


def event_fault(audio: Float32, event: Event, settings: RecordingsSpec) -> str | None:
    """Return the reason for which an event of a recording [N] cannot become a clip, None if it can.

    The reason is `SHORT` if the event has less than `min_seconds` of active frames, and `CLIPPED` if the
    `clipped_share` of its samples is above `max_clipped`.
    """
    if event.active < settings.min_seconds * SAMPLE_RATE:
        return SHORT
    # promise: recording-clipped
    return CLIPPED if clipped_share(audio[event.start : event.stop]) > settings.max_clipped else None


def clipped_share(audio: Float32) -> float:
    """Return the share, 0..1, of samples of audio [N] in runs of at least three successive samples at full scale.

    A sample is at full scale if its absolute value is at least 0.999. The share is 0 for empty audio.
    """
    runs = [stop - start for start, stop in true_spans(np.abs(audio) >= CLIPPED_LEVEL)]
    return sum(run for run in runs if run >= CLIPPED_RUN) / max(1, len(audio))

"""Cutting of a recording into events by activity. In shapes, N counts samples at 24 kHz and F frames of 10 ms."""

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
    """Samples `start` to `stop` (exclusive) of a recording. `active` is the number of samples in its active frames."""

    start: int
    stop: int
    active: int


def events(audio: Float32, clip: ClipSpec, settings: RecordingsSpec) -> list[Event]:
    """Return the stretches of a recording [N] that may become clips, in order, none longer than a clip.

    A frame is active if its level is at most `range_db` below that of the loud frames. Active stretches with a pause of
    less than `pause_seconds` between them are one event. An event longer than a clip is cut into events of one clip's
    length and a shorter rest.
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
    """Return the root mean square of each frame in dB re full scale, [F]; the mean of the audio is subtracted first.

    The last frame is padded with zeros.
    """
    centred = audio.astype(np.float64) - audio.mean(dtype=np.float64)
    padded = np.pad(centred, (0, -len(centred) % FRAME)).reshape(-1, FRAME)
    return np.asarray(10 * np.log10(np.square(padded).mean(axis=1) + 1e-12))


def cut(audio: Float32, start: int, stop: int) -> Float32:
    """Return samples `start` to `stop` (exclusive) minus the mean of the recording, within -1..1, with faded ends."""
    piece = np.clip(audio[start:stop] - audio.mean(dtype=np.float64).astype(np.float32), -1, 1)
    ramp = (np.arange(min(FADE, len(piece) // 2), dtype=np.float32) + 0.5) / FADE
    piece[: len(ramp)] *= ramp
    piece[len(piece) - len(ramp) :] *= ramp[::-1]
    return piece


def event_fault(audio: Float32, event: Event, settings: RecordingsSpec) -> str | None:
    """Return the reason for which an event cannot become a clip, None if it can."""
    if event.active < settings.min_seconds * SAMPLE_RATE:
        return SHORT
    # promise: recording-clipped
    return CLIPPED if clipped_share(audio[event.start : event.stop]) > settings.max_clipped else None


def clipped_share(audio: Float32) -> float:
    """Return the share of samples that are in runs of at least `CLIPPED_RUN` samples at full scale."""
    runs = [stop - start for start, stop in true_spans(np.abs(audio) >= CLIPPED_LEVEL)]
    return sum(run for run in runs if run >= CLIPPED_RUN) / max(1, len(audio))

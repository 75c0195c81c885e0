"""Cutting a recording into clips by activity. N samples at 24 kHz, F frames of 10 ms."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from data_specs.controls.curves import true_spans
from data_specs.rates import SAMPLE_RATE
from data_specs.spec import ClipSpec, RecordingsSpec

FRAME = 240  # samples
LOUD_PERCENTILE = 95  # of the level of a file's frames above the floor
FLOOR_DB = -70.0  # re full scale: digital silence and the noise of good converters
BEFORE, AFTER = 480, 2400  # samples kept around an event: an attack, and a decay below the threshold
FADE = 240  # samples at both ends of a clip, so that a cut is no click
CLIPPED_LEVEL = 0.999
CLIPPED_RUN = 3  # samples at full scale in succession; shorter runs are peaks of a normalized file

SILENT, SHORT, CLIPPED = "silent recording", "event too short", "clipped event"


class Event(NamedTuple):
    """Samples [start, stop) of a recording, of which `active` are above the threshold."""

    start: int
    stop: int
    active: int


def events(audio: NDArray[np.float32], clip: ClipSpec, settings: RecordingsSpec) -> list[Event]:
    """Return the stretches of a recording that become clips, none longer than a clip.

    A frame is active if its level, without DC, is within `range_db` of the loud frames. Stretches with pauses shorter
    than `pause_seconds` are one event; a longer event than a clip is cut into clips, the last one being the rest.
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


def frame_levels(audio: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the root mean square of each frame in dB re full scale, [F], the last frame padded with zeros."""
    centred = audio.astype(np.float64) - audio.mean(dtype=np.float64)
    padded = np.pad(centred, (0, -len(centred) % FRAME)).reshape(-1, FRAME)
    return np.asarray(10 * np.log10(np.square(padded).mean(axis=1) + 1e-12))


def cut(audio: NDArray[np.float32], start: int, stop: int) -> NDArray[np.float32]:
    """Return the stretch [start, stop) without the recording's DC, limited to full scale and faded at both ends."""
    piece = np.clip(audio[start:stop] - audio.mean(dtype=np.float64).astype(np.float32), -1, 1)
    ramp = (np.arange(min(FADE, len(piece) // 2), dtype=np.float32) + 0.5) / FADE
    piece[: len(ramp)] *= ramp
    piece[len(piece) - len(ramp) :] *= ramp[::-1]
    return piece


def event_fault(audio: NDArray[np.float32], event: Event, settings: RecordingsSpec) -> str | None:
    """Return why an event is no clip, or None."""
    if event.active < settings.min_seconds * SAMPLE_RATE:
        return SHORT
    # promise: recording-clipped
    return CLIPPED if clipped_share(audio[event.start : event.stop]) > settings.max_clipped else None


def clipped_share(audio: NDArray[np.float32]) -> float:
    """Return the share of samples in runs at full scale."""
    runs = [stop - start for start, stop in true_spans(np.abs(audio) >= CLIPPED_LEVEL)]
    return sum(run for run in runs if run >= CLIPPED_RUN) / max(1, len(audio))

"""Cutting recordings by activity, against sounds placed at known times."""

from itertools import pairwise

import numpy as np
import pytest

from data_specs.spec import ClipSpec, RecordingsSpec
from pipeline.recordings.activity import CLIPPED, SHORT, clipped_share, cut, event_fault, events

RATE = 24_000
CLIP, SETTINGS = ClipSpec(seconds=2), RecordingsSpec()


def sounds(seconds, *spans, level=0.3, floor=0.0):
    time = np.arange(round(seconds * RATE)) / RATE
    audio = floor * np.random.default_rng(0).standard_normal(len(time))
    for start, stop in spans:
        here = (time >= start) & (time < stop)
        audio[here] += level * np.sin(2 * np.pi * 300 * time[here])
    return audio.astype(np.float32)


def test_events_are_where_the_sound_is():
    audio = sounds(6, (1, 1.5), (3, 4.2))
    first, second = events(audio, CLIP, SETTINGS)
    for event, (start, stop) in ((first, (1, 1.5)), (second, (3, 4.2))):
        assert 0 <= start - event.start / RATE <= 0.04
        assert 0 <= event.stop / RATE - stop <= 0.12
        assert event.active / RATE == pytest.approx(stop - start, abs=0.03)


def test_short_pauses_are_bridged_and_long_events_are_cut():
    assert len(events(sounds(4, (0.5, 1.0), (1.3, 1.8)), CLIP, SETTINGS)) == 1
    pieces = events(sounds(8, (1, 6.5)), CLIP, SETTINGS)
    assert [piece.stop - piece.start for piece in pieces[:-1]] == [2 * RATE] * 2
    assert all(after.start == before.stop for before, after in pairwise(pieces))
    assert pieces[-1].stop / RATE == pytest.approx(6.5, abs=0.12)


def test_noise_below_the_range_is_silence():
    assert len(events(sounds(4, (1, 1.5), (3, 3.5), floor=2e-4), CLIP, SETTINGS)) == 2
    assert events(np.zeros(RATE, np.float32), CLIP, SETTINGS) == []
    assert events(np.full(RATE, 0.2, np.float32), CLIP, SETTINGS) == []  # DC is no sound


def test_short_and_clipped_events_are_rejected():
    tick = np.zeros(RATE, np.float32)
    tick[RATE // 2] = 0.5
    (event,) = events(tick, CLIP, SETTINGS)
    assert event_fault(tick, event, SETTINGS) == SHORT
    loud = np.clip(sounds(2, (0.5, 1.5), level=3.0), -1, 1)
    (event,) = events(loud, CLIP, SETTINGS)
    assert event_fault(loud, event, SETTINGS) == CLIPPED
    clean = sounds(2, (0.5, 1.5), level=1.0)  # normalized: peaks, but no runs, at full scale
    (event,) = events(clean, CLIP, SETTINGS)
    assert event_fault(clean, event, SETTINGS.model_copy(update={"max_clipped": 0.2})) is None
    assert clipped_share(np.array([1, 1, 0, 1, 1, 1, -1], np.float32)) == pytest.approx(4 / 7)


def test_a_cut_fades_and_has_no_dc():
    audio = np.full(RATE, 0.25, np.float32) + sounds(1, (0, 1))
    piece = cut(audio, 1000, 12_000)
    assert len(piece) == 11_000
    assert abs(piece[0]) < 0.01
    assert abs(piece[-1]) < 0.01
    assert abs(piece.mean()) < 0.02

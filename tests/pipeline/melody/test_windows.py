import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_specs.spec import ClipSpec
from pipeline.melody.skyline import CHORD_SAMPLES, UNITS, Melody, melodies
from pipeline.melody.windows import rejection_reason, windows
from tests.pipeline.made_songs import TICKS_A_SECOND, song, track, tune

CLIP = ClipSpec(min_notes=2, min_pitch_classes=1)
SECOND = 24_000 * UNITS


def line(notes: list[tuple[float, float, int, int]], clip: ClipSpec = CLIP) -> list[tuple[float, float, int]]:
    """The melody of one track as (start, end, pitch) in seconds; asserts that it is there."""
    found, faults = melodies(song(track(notes)), clip)
    assert not faults
    (melody,) = found
    columns = zip(melody.onset.tolist(), melody.offset.tolist(), melody.pitch.tolist(), strict=True)
    return [(start / SECOND, end / SECOND, pitch) for start, end, pitch in columns]


def test_top_of_chords_is_the_melody() -> None:
    chords = [(t, t + 1, pitch, 80) for t, top in ((0, 72), (1, 74), (2, 76)) for pitch in (48, 64, 67, top)]
    assert line(chords) == [(0, 1, 72), (1, 2, 74), (2, 3, 76)]


def test_a_chord_may_be_spread_upwards_or_downwards() -> None:
    spread = [
        (0.0, 1, 60, 80),
        (0.01, 1, 64, 80),
        (0.02, 1, 67, 80),
        (1, 2, 71, 80),
        (1.01, 2, 62, 80),
        (1.02, 2, 65, 80),
    ]
    assert [pitch for _, _, pitch in line(spread)] == [67, 71]


def test_notes_further_apart_than_a_chord_are_a_rising_line() -> None:
    apart = 2 * CHORD_SAMPLES / 24_000
    assert [pitch for _, _, pitch in line([(0, 1, 60, 80), (apart, 1, 64, 80), (2 * apart, 1, 67, 80)])] == [60, 64, 67]


@pytest.mark.parametrize("second", [62, 58], ids=["rising", "falling"])
def test_legato_overlap_ends_the_earlier_note_where_the_later_starts(second: int) -> None:
    assert line([(0, 1.1, 60, 80), (1, 2, second, 80)]) == [(0, 1, 60), (1, 2, second)]


def test_sharing_exactly_half_is_still_legato() -> None:
    assert line([(0, 1, 60, 80), (0.5, 1.5, 58, 80)]) == [(0, 0.5, 60), (0.5, 1.5, 58)]
    assert line([(0, 1, 60, 80), (0.49, 1.5, 58, 80), (2, 3, 60, 80)]) == [(0, 1, 60), (2, 3, 60)]


def test_moving_notes_beneath_a_held_one_are_left_out() -> None:
    beneath = [(0, 2, 76, 80), (0.5, 1, 67, 80), (1, 1.5, 64, 80), (1.5, 2, 67, 80), (2, 3, 74, 80)]
    assert line(beneath) == [(0, 2, 76), (2, 3, 74)]


def test_a_melody_enters_above_a_held_bass() -> None:
    assert line([(0, 4, 43, 80), (1, 2, 67, 80), (2, 3, 69, 80)]) == [(0, 1, 43), (1, 2, 67), (2, 3, 69)]


def test_the_same_pitch_struck_again_is_a_new_note() -> None:
    assert line([(0, 2, 60, 80), (1, 3, 60, 80)]) == [(0, 1, 60), (1, 3, 60)]


def test_an_ornament_too_short_to_be_heard_does_not_cut_its_neighbours() -> None:
    assert line([(0, 1, 60, 80), (0.5, 0.51, 72, 80), (1, 2, 62, 80)]) == [(0, 1, 60), (1, 2, 62)]


def test_a_short_upper_grace_note_does_not_swallow_its_main_note() -> None:
    assert [pitch for _, _, pitch in line([(0, 0.06, 74, 80), (0.05, 1, 72, 80), (1, 2, 71, 80)])] == [74, 72, 71]


def test_a_note_never_released_does_not_hide_the_rest() -> None:
    stuck = [(0, 500, 84, 80), *tune([60, 62, 64], start=10)]
    assert [pitch for _, _, pitch in line(stuck)] == [84, 60, 62, 64]


def test_short_rests_are_closed_and_longer_ones_stay() -> None:
    rest = CLIP.min_rest_samples / 24_000
    found = line([(0, 1 - 0.9 * rest, 60, 80), (1, 2 - 1.1 * rest, 62, 80), (2, 3, 64, 80)])
    assert found[0] == (0, 1, 60)
    assert found[1][1] == pytest.approx(2 - 1.1 * rest, abs=1e-6)


def test_a_rest_of_just_the_shortest_length_stays() -> None:
    rest = CLIP.min_rest_samples / 24_000
    assert line([(0, 1 - rest, 60, 80), (1, 2, 62, 80)])[0][1] == pytest.approx(1 - rest, abs=1e-7)


def test_the_last_note_rings_to_the_end_if_the_rest_would_be_too_short() -> None:
    clip = ClipSpec(seconds=4, min_notes=2, min_pitch_classes=1)
    for gap, expected in ((0.02, 96_000), (0.1, 93_632)):  # 0.1 s before the end: 93 600 samples, to the next block
        notes = [(0, 2, 60, 80), (2, 4 - gap, 62, 80), (5, 6, 60, 80)]
        found, _ = windows(melodies(song(track(notes)), clip)[0][0], clip)
        assert found[0].notes[-1, 1] == expected


def test_tracks_that_are_no_melody_are_named() -> None:
    notes = tune(range(60, 72))
    tracks = [
        track(notes, 0, is_drum=True),
        track(notes, 1, program=120),
        track(notes[:1], 2),
        track(notes, 3, program=114),
    ]
    found, faults = melodies(song(*tracks), CLIP)
    assert [melody.track for melody in found] == [3]
    assert faults == [
        ("drum track", "track 0"),
        ("unpitched track", "track 1, program 120"),
        ("track of few notes", "track 2"),
    ]


NOTE = st.tuples(st.integers(0, 40_000), st.integers(1, 9_000), st.integers(30, 90), st.integers(1, 127))


@given(st.lists(NOTE, min_size=1, max_size=60))
@settings(max_examples=150, deadline=None)
def test_a_melody_is_one_voice_of_the_notes_given(rows: list[tuple[int, int, int, int]]) -> None:
    """Whatever the track: one note at a time, each one of the track's own, none too short, no rest too short."""
    notes = [(tick / TICKS_A_SECOND, (tick + length) / TICKS_A_SECOND, p, v) for tick, length, p, v in rows]
    found, faults = melodies(song(track(notes)), CLIP)
    assert len(found) + len(faults) == 1
    for melody in found:
        length, rest = melody.offset - melody.onset, melody.onset[1:] - melody.offset[:-1]
        assert length.min() >= CLIP.min_note_samples * UNITS
        assert all(gap == 0 or gap >= CLIP.min_rest_samples * UNITS for gap in rest.tolist())
        given_notes = {(tick, pitch, velocity) for tick, _, pitch, velocity in rows}
        assert (
            set(zip(melody.tick.tolist(), melody.pitch.tolist(), melody.velocity.tolist(), strict=True)) <= given_notes
        )
        # A note that starts in a rest of the melody, no other near it, would have been taken.
        ends, starts = [0, *melody.offset.tolist()], [*melody.onset.tolist(), 1 << 60]
        begins = [math.floor(tick / TICKS_A_SECOND * SECOND + 0.5) for tick, _, _, _ in rows]
        for begin, (_, ticks, _, _) in zip(begins, rows, strict=True):
            alone = sum(abs(other - begin) <= CLIP.min_note_samples * UNITS for other in begins) == 1
            if alone and ticks / TICKS_A_SECOND * 24_000 > CLIP.min_note_samples:
                assert not any(end < begin < start for end, start in zip(ends, starts, strict=True))


@given(st.lists(st.tuples(st.integers(60, 900), st.sampled_from([0, 0, 0, 100, 700]), st.integers(40, 80)), min_size=2))
@settings(max_examples=100, deadline=None)
def test_a_line_that_is_one_voice_already_stays_as_it_is(rows: list[tuple[int, int, int]]) -> None:
    notes, tick = [], 0
    for length, rest, pitch in rows:
        notes.append((tick / TICKS_A_SECOND, (tick + length) / TICKS_A_SECOND, pitch, 80))
        tick += length + rest
    found = line(notes)
    assert [(s, e, p) for s, e, p in found] == [
        (pytest.approx(s, abs=1e-7), pytest.approx(e, abs=1e-7), p) for s, e, p, _ in notes
    ]


def naive_windows(melody: Melody, clip: ClipSpec) -> list[tuple[int, list[tuple[int, int, int, int]]]]:
    """Windows by their definition, in exact fractions of seconds: all of them, good or not."""
    block = Fraction(64, 24_000)
    notes = [
        (Fraction(int(a), SECOND), Fraction(int(b), SECOND), int(p), int(v), int(t))
        for a, b, p, v, t in zip(melody.onset, melody.offset, melody.pitch, melody.velocity, melody.tick, strict=True)
    ]
    result = []
    while notes:
        origin = notes[0][0]
        rows = []
        for start, end, pitch, velocity, _ in notes:
            if start >= origin + clip.seconds:
                break
            # Nearest block, ties upwards; what is within 1/100 sample of a tie counts as one.
            on, off = (
                math.floor((t - origin) / block + Fraction(1, 2) + Fraction(8, 64_000)) * 64 for t in (start, end)
            )
            off = min(off, clip.samples)
            if off - on >= clip.min_note_samples:
                rows.append((on, off, pitch, velocity))
        if rows and clip.samples - rows[-1][1] < clip.min_rest_samples:
            rows[-1] = (rows[-1][0], clip.samples, *rows[-1][2:])
        result.append((notes[0][4], rows))
        notes = [note for note in notes if note[0] >= origin + clip.seconds]
    return result


@given(st.lists(NOTE, min_size=4, max_size=80), st.sampled_from([2, 8]))
@settings(max_examples=100, deadline=None)
def test_windows_are_as_defined(rows: list[tuple[int, int, int, int]], seconds: int) -> None:
    clip = ClipSpec(seconds=seconds, min_notes=2, min_pitch_classes=2, max_rest_share=0.6)
    notes = [(tick / TICKS_A_SECOND, (tick + length) / TICKS_A_SECOND, p, v) for tick, length, p, v in rows]
    for melody in melodies(song(track(notes)), clip)[0]:
        found, faults = windows(melody, clip)
        expected = naive_windows(melody, clip)
        good = [
            (tick, rows)
            for tick, rows in expected
            if len(rows) >= 2
            and sum(off - on for on, off, _, _ in rows) >= 0.4 * clip.samples
            and len({pitch % 12 for _, _, pitch, _ in rows}) >= 2
        ]
        assert [(window.start_tick, [tuple(row) for row in window.notes.tolist()]) for window in found] == good
        assert len(faults) == len(expected) - len(good)
        for window in found:
            assert window.notes.dtype == np.int32
            assert not (window.notes[:, :2] % 64).any()
            assert window.notes[0, 0] == 0
            assert window.notes[-1, 1] <= clip.samples
            rests = window.notes[1:, 0] - window.notes[:-1, 1]
            assert all(rest == 0 or rest >= clip.min_rest_samples for rest in rests.tolist())
            assert (window.notes[:, 1] - window.notes[:, 0]).min() >= clip.min_note_samples


@given(st.integers(1, 10**6), st.integers(200_000, 1_500_000))
@settings(max_examples=60, deadline=None)
def test_a_phrase_that_returns_gives_the_same_notes(offset: int, tempo: int) -> None:
    """Wherever the phrase starts and whatever the tempo, although the blocks of 64 samples lie elsewhere under it."""

    def phrase(start_tick: int) -> list[tuple[float, float, int, int]]:
        seconds = [(start_tick + tick) * tempo / 1e6 / 480 for tick in range(0, 480 * 8 + 1, 160)]
        return [(a, b, 60 + i % 7, 80) for i, (a, b) in enumerate(itertools.pairwise(seconds))]

    clip = ClipSpec(seconds=4, min_notes=2, min_pitch_classes=1, max_rest_share=1)
    first = windows(melodies(song(track(phrase(0))), clip)[0][0], clip)[0][0]
    again = windows(melodies(song(track(phrase(offset))), clip)[0][0], clip)[0][0]
    assert first.notes.tolist() == again.notes.tolist()


def test_ties_of_rounding_fall_the_same_way_everywhere() -> None:
    """At 501 250 us a beat, 512 ticks of 480 are 200.5 blocks, and an odd tick is half a unit of a melody's time: each
    rounding is a tie, which the last bit of a float decides unless a side is preferred."""

    def phrase(start_tick: int) -> np.ndarray:
        seconds = [(start_tick + 512 * i) * 501_250 / 480 / 1e6 for i in range(8)]
        notes = [(a, b, 60 + i % 5, 80) for i, (a, b) in enumerate(itertools.pairwise(seconds))]
        clip = ClipSpec(seconds=4, min_notes=2, min_pitch_classes=1)
        return windows(melodies(song(track(notes)), clip)[0][0], clip)[0][0].notes

    expected = [64 * math.floor(200.5 * i + 0.5) for i in range(7)]
    for start in range(1, 4000, 2):
        assert phrase(start)[:, 0].tolist() == expected


@pytest.mark.parametrize(
    ("pitches", "seconds", "reason"),
    [
        ([60, 62, 64, 65], 2.0, "window of few notes"),
        ([60, 62, 64, 65, 67, 69, 71, 72], 0.25, "window mostly rest"),
        ([60, 72, 62, 60, 62, 72, 60, 62], 1.0, "window of few pitches"),
    ],
)
def test_windows_left_out_are_named(pitches: list[int], seconds: float, reason: str) -> None:
    clip = ClipSpec()
    rows = [[round(i * seconds * 375) * 64, round((i + 1) * seconds * 375) * 64, p, 80] for i, p in enumerate(pitches)]
    assert rejection_reason(np.array(rows, np.int32), clip) == reason
    assert (
        rejection_reason(np.array(rows, np.int32), ClipSpec(min_notes=4, max_rest_share=0.8, min_pitch_classes=1))
        is None
    )

"""Songs made by tests: notes in seconds, 960 ticks a second; and a reader that stands in for the MIDI reader."""

from collections.abc import Iterable

import numpy as np

from pipeline.song import Song, Track

TICKS_A_SECOND = 960


def track(
    notes: Iterable[tuple[float, float, int, int]], index: int = 0, program: int = 0, is_drum: bool = False
) -> Track:
    """A track of (start, end, pitch, velocity), times in seconds."""
    rows = sorted(notes, key=lambda note: (round(note[0] * TICKS_A_SECOND), note[2]))
    start = np.array([row[0] for row in rows], np.float64)
    end = np.array([row[1] for row in rows], np.float64)
    return Track(
        index=index,
        program=program,
        is_drum=is_drum,
        name="",
        start_tick=np.round(start * TICKS_A_SECOND).astype(np.int64),
        end_tick=np.round(end * TICKS_A_SECOND).astype(np.int64),
        start_s=start,
        end_s=end,
        pitch=np.array([row[2] for row in rows], np.int16),
        velocity=np.array([row[3] for row in rows], np.int16),
    )


def song(*tracks: Track) -> Song:
    return Song(tracks, max(float(t.end_s.max()) for t in tracks))


def tune(pitches: Iterable[int], seconds: float = 0.5, start: float = 0.0) -> list[tuple[float, float, int, int]]:
    """Equal notes one after the other."""
    return [(start + i * seconds, start + (i + 1) * seconds, pitch, 80) for i, pitch in enumerate(pitches)]


def random_song(seed: int, notes: int = 120, tracks: int = 1) -> Song:
    """A song of seeded random melodies of eighths, quarters and rests."""
    made = []
    for index in range(tracks):
        generator = np.random.default_rng((seed, index))
        lengths = generator.choice([0.25, 0.5, 0.75, 1.0], notes)
        starts = np.cumsum(lengths + generator.choice([0, 0, 0, 0.5], notes)) - lengths
        pitches = 60 + np.clip(np.cumsum(generator.integers(-4, 5, notes)), -14, 14)
        rows = zip(starts, starts + lengths, pitches, generator.integers(40, 120, notes), strict=True)
        made.append(track([(float(a), float(b), int(p), int(v)) for a, b, p, v in rows], index))
    return song(*made)

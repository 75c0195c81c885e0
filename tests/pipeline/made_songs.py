"""Songs made by tests: notes in seconds, 960 ticks a second; and a substitute for the MIDI reader."""

import hashlib
import io
import json
from collections.abc import Callable, Iterable
from pathlib import Path

import mido
import numpy as np

from data_specs.spec import ClipCounts, Spec, load_spec
from pipeline.midi.song import Song, Track
from pipeline.midi.sources import SourceFile
from pipeline.plan.index import IndexPart, index_part
from pipeline.rejects import Rejects

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


STEPS = np.array([0, 2, 4, 5, 7, 9, 11, 12])


def song_bytes(seed: int, notes: int = 120) -> bytes:
    """A MIDI file with one melody: a seeded walk over a scale in quavers and crotchets."""
    rng = np.random.default_rng(seed)
    file = mido.MidiFile(ticks_per_beat=480)
    track = mido.MidiTrack()
    file.tracks.append(track)
    track.append(mido.MetaMessage("set_tempo", tempo=int(rng.integers(350_000, 600_000))))
    degree = 3
    for _ in range(notes):
        degree = int(np.clip(degree + rng.integers(-3, 4), 0, 13))
        pitch = 52 + 12 * (degree // 7) + int(STEPS[degree % 7])
        length = int(rng.choice([240, 240, 480]))
        track.append(mido.Message("note_on", note=pitch, velocity=int(rng.integers(60, 127)), time=0))
        track.append(mido.Message("note_off", note=pitch, velocity=0, time=length))
    content = io.BytesIO()
    file.save(file=content)
    return content.getvalue()


def write_songs(folder: Path, count: int = 24) -> None:
    """Songs below `folder` in three sub-folders."""
    for seed in range(count):
        path = folder / f"album-{seed % 3}" / f"song-{seed:02d}.mid"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(song_bytes(seed))


def small_shards(train: int, valid: int) -> Spec:
    """The sample spec with so many clips, in shards of 4 and chunks of 2."""
    spec = load_spec("sample").with_clips(ClipCounts(train=train, valid=valid))
    formats = {
        name: spec.format(name).model_copy(update={"shard_clips": 4, "chunk_clips": 2})
        for name in ("audio", "cqt", "encodec", "disc")
    }
    source = spec.source.model_copy(update={"key_shifts": (0,), "clips_per_song": 4})
    return spec.model_copy(update={"formats": formats, "source": source})


def contents(out: Path) -> dict[str, str]:
    """sha256 of everything a user sees below `out`, by path; MIDI's own path is left out of dataset.json."""
    found = {}
    for path in sorted(out.glob("PVT-*/**/*")):
        if path.is_file() and ".build" not in path.parts:
            content = path.read_bytes()
            if path.name == "dataset.json":
                value = json.loads(content)
                value["spec"]["source"]["midi"] = ""
                content = json.dumps(value, sort_keys=True).encode()
            found[str(path.relative_to(out))] = hashlib.sha256(content).hexdigest()
    return found


def part_of(files: Iterable[tuple[str, bytes]], spec: Spec, folder: Path, reader: Callable[[bytes], Song]) -> IndexPart:
    """An index part of (name, content) pairs."""
    return index_part([SourceFile(name, content=content) for name, content in files], spec, folder, reader, Rejects())

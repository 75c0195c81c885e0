import hashlib
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

import pipeline.plan.index as index
from data_specs.spec import Spec, load_spec
from pipeline.melody.transposition import fitting_keys
from pipeline.melody.windows import fingerprint, repeat_key, song_windows
from pipeline.midi.song import Song
from pipeline.plan.index import IndexPart, read_part
from pipeline.rejects import Rejected
from tests.pipeline.made_songs import part_of, random_song, song, track, tune

SPEC = load_spec("sample")
FILES = [(f"song {i}.mid", random_song(i, tracks=1 + i % 3).pack()) for i in range(8)]


def build(files: Iterable[tuple[str, bytes]], folder: Path, spec: Spec = SPEC) -> IndexPart:
    return part_of(files, spec, folder, Song.unpack)


def refuse(content: bytes) -> Song:
    raise AssertionError("an existing part was rebuilt")


def test_rows_are_the_windows_of_the_songs(tmp_path: Path) -> None:
    part = build(FILES, tmp_path)
    rows = pq.read_table(part.path).to_pylist()
    expected = []
    for number, (digest, content) in enumerate(sorted((hashlib.sha256(c).hexdigest(), c) for _, c in FILES)):
        assert part.songs[number].digest == digest
        for window in song_windows(Song.unpack(content), SPEC.clip)[0]:
            expected.append(
                {
                    "song": number,
                    "track": window.track,
                    "start_tick": window.start_tick,
                    "fingerprint": fingerprint(window.notes, SPEC.clip.min_notes),
                    "repeat": repeat_key(window.notes),
                    "fits": fitting_keys(window.notes, SPEC.clip),
                    "notes": window.notes.reshape(-1).tolist(),
                }
            )
    assert rows == expected
    assert part.windows == len(rows) > 20
    assert [s.windows for s in part.songs] == np.bincount([row["song"] for row in rows], minlength=len(FILES)).tolist()


def test_a_part_that_stands_is_taken_in_any_order_of_its_files(tmp_path: Path) -> None:
    first = build(FILES, tmp_path)
    before = first.path.read_bytes()
    assert part_of(reversed(FILES), SPEC, tmp_path, refuse) == first
    first.path.unlink()
    assert build(reversed(FILES), tmp_path) == first
    assert first.path.read_bytes() == before


@pytest.mark.parametrize("place", [0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9])
def test_a_damaged_part_is_made_again(tmp_path: Path, place: float) -> None:
    part = build(FILES, tmp_path)
    good = part.path.read_bytes()
    table = pq.read_table(part.path)
    bad = bytearray(good)
    bad[int(place * len(bad)) + 2] ^= 0x55
    for damaged in (bytes(bad), good[: int(place * len(good))]):
        part.path.write_bytes(damaged)
        assert build(FILES, tmp_path) == part
        assert pq.read_table(part.path).equals(table)


def test_a_song_table_that_was_changed_is_noticed(tmp_path: Path) -> None:
    part = build(FILES, tmp_path)
    content = part.path.read_bytes()
    assert content.count(b"song 3.mid") >= 1
    part.path.write_bytes(content.replace(b"song 3.mid", b"song 4.mid"))
    assert read_part(part.path) in (None, part)
    metadata = pq.read_schema(part.path).metadata[index.METADATA_KEY]
    table = pq.read_table(part.path)
    for damage in (metadata.replace(b"song 3.mid", b"song 4.mid"), metadata.replace(b'"windows": ', b'"windows": 1')):
        pq.write_table(table.replace_schema_metadata({index.METADATA_KEY: damage}), part.path)
        assert read_part(part.path) is None


def test_a_part_of_another_version_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    part = build(FILES, tmp_path)
    monkeypatch.setattr(index, "INDEX_VERSION", index.INDEX_VERSION + 1)
    assert read_part(part.path) is None
    newer = build(FILES, tmp_path)
    assert newer.path != part.path


def test_another_clip_or_limit_is_another_part_and_another_cap_is_not(tmp_path: Path) -> None:
    part = build(FILES, tmp_path)
    clip = SPEC.model_copy(update={"clip": SPEC.clip.model_copy(update={"min_notes": 9})})
    limits = SPEC.model_copy(update={"limits": SPEC.limits.model_copy(update={"notes": 9_999})})
    source = SPEC.model_copy(update={"source": SPEC.source.model_copy(update={"clips_per_song": 1}), "seed": 5})
    assert len({build(FILES, tmp_path, spec).path for spec in (clip, limits)} | {part.path}) == 3
    assert part_of(FILES, source, tmp_path, refuse).path == part.path


def test_every_file_is_accounted_for(tmp_path: Path) -> None:
    short = song(track(tune([60, 62, 64])))
    mixed = song(track(tune(range(60, 76)), 0), track(tune(range(60, 76)), 1, is_drum=True))
    contents = {"bad.mid": b"bad", "short.mid": short.pack(), "mixed.mid": mixed.pack(), "twin.mid": mixed.pack()}

    def reader(content: bytes) -> Song:
        if content == b"bad":
            raise Rejected("not MIDI", "begins with b'bad'")
        return Song.unpack(content)

    part = part_of(contents.items(), SPEC, tmp_path, reader)
    by_name = {entry.name: entry for entry in part.songs}
    assert set(by_name) == {"bad.mid", "short.mid", "mixed.mid"}
    assert by_name["bad.mid"].rejects == {"not MIDI": [1, "begins with b'bad'"]}
    assert by_name["short.mid"].rejects == {"track of few notes": [1, "track 0"], "no melody": [1, "1 tracks"]}
    assert by_name["mixed.mid"].copies == 2
    assert by_name["mixed.mid"].windows == 1
    assert by_name["mixed.mid"].rejects == {"drum track": [1, "track 1"]}


def test_no_files_at_all_are_a_part_too(tmp_path: Path) -> None:
    part = build([], tmp_path)
    assert part.windows == 0
    assert read_part(part.path) == part

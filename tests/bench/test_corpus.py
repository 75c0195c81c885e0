"""Corpora of permuted songs: what a copy keeps, and the split it belongs to."""

import numpy as np
import pytest

from bench.corpus import VALID_SHARE, permuted, write
from pipeline.midi.sources import content_digest
from pipeline.plan.selection import is_valid, song_keys
from pipeline.tunes import midi_files


def in_valid(content: bytes) -> bool:
    return bool(is_valid(song_keys([content_digest(content)]), VALID_SHARE)[0])


def test_a_copy_has_the_same_steps_in_another_order():
    rng = np.random.default_rng(0)
    time = np.cumsum(rng.integers(1, 9, 50))
    notes = {
        "time": time,
        "duration": rng.integers(1, 9, 50),
        "pitch": rng.integers(60, 64, 50),
        "velocity": time % 128,
    }
    made = permuted(notes, rng)
    for name, steps in (("time", np.diff), ("pitch", np.diff), ("duration", np.asarray)):
        assert not np.array_equal(made[name], notes[name])
        assert sorted(steps(made[name])) == sorted(steps(notes[name]))
    assert np.array_equal(made["velocity"], notes["velocity"])


@pytest.mark.parametrize("with_source", [False, True])
def test_copies_of_train_songs_are_of_the_train_split(tmp_path, with_source):
    write("tunes", 5, tmp_path, train_only=True, with_source=with_source)
    contents = [path.read_bytes() for path in sorted(tmp_path.rglob("*.mid"))]
    tunes = [content for _, content in midi_files()]
    assert not any(in_valid(content) for content in contents[:5])
    assert not set(contents[:5]) & set(tunes)
    assert contents[5:] == (tunes if with_source else [])
    assert any(map(in_valid, tunes))

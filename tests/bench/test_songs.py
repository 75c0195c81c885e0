"""The composed songs: of the promised sizes, the same from run to run, varied, damaged as often as stated."""

import io

import mido
import pytest

from bench import songs as composing
from bench.midi import is_fast
from bench.songs import DAMAGED, LARGEST, SMALLEST, songs
from data_specs.spec import Limits
from pipeline.midi.reader import read_song


@pytest.fixture(scope="module")
def made():
    return list(songs(4))


def test_song_sizes_are_realistic_and_differ(made):
    assert all(0.8 * SMALLEST < len(content) < 1.2 * LARGEST for content in made)
    assert len({len(content) for content in made}) == len(made)


def test_a_song_is_a_function_of_seed_and_number(made):
    assert list(songs(2)) == made[:2]
    assert next(songs(1, seed=1)) != made[0]


def test_both_readers_return_the_composed_notes(made):
    for content in made:
        assert is_fast(content)
        read, parsed = read_song(content, Limits()), mido.MidiFile(file=io.BytesIO(content))
        begun = sum(m.type == "note_on" and m.velocity > 0 for track in parsed.tracks for m in track)
        assert sum(len(track.pitch) for track in read.tracks) == begun
        assert len(read.tracks) == len(parsed.tracks) - 1  # the first holds tempos alone
        assert any(track.is_drum for track in read.tracks)
        kinds = {message.type for track in parsed.tracks for message in track}
        assert kinds > {"set_tempo", "program_change", "control_change", "pitchwheel", "sysex", "note_on"}


def test_one_in_twenty_is_damaged(monkeypatch):
    monkeypatch.setattr(composing, "song", lambda rng: bytes(1000))
    assert [content == bytes(1000) for content in songs(2 * DAMAGED)] == 2 * ([True] * (DAMAGED - 1) + [False])

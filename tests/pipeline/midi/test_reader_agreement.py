"""Notes of MIDI files: against pretty_midi and mido, and the fast reader against the lenient one."""

import io
import os
import random
from dataclasses import replace

import mido
import numpy as np
import pretty_midi
import pytest

from pipeline.midi.reader import read_song
from pipeline.midi.song import Song
from tests.pipeline.midi.made_midi import (
    LIMITS,
    Message,
    Meta,
    assert_same,
    both_ways,
    chunk,
    file_bytes,
    intervals,
    off,
    on,
    our_notes,
    pretty_notes,
    random_song,
    raw_file,
)

# --- agreement


@pytest.mark.parametrize("seed", range(12))
def test_notes_are_pretty_midis(seed):
    content = random_song(seed)
    ours = [note for track in our_notes(read_song(content, LIMITS)) for note in track]
    theirs = [note for track in pretty_notes(content) for note in track]
    assert len(ours) >= 120
    assert [note[:4] for note in ours] == [note[:4] for note in theirs]
    np.testing.assert_allclose([note[4:] for note in ours], [note[4:] for note in theirs], rtol=0, atol=1e-3)


@pytest.mark.parametrize("seed", range(12))
def test_both_readers_give_the_same_song(seed):
    fast, lenient = both_ways(random_song(seed))
    assert isinstance(fast, Song)
    assert isinstance(lenient, Song)
    assert_same(fast, lenient)


def test_note_order_and_track_numbers():
    """Track chunk, then channel, then program; notes by start, pitch, end, velocity."""
    content = file_bytes(
        [
            [Meta("set_tempo", tempo=500_000, time=0)],
            [
                on(0, 64, 9, channel=3),
                on(0, 60, 8, channel=3),
                on(0, 50, channel=1),
                off(240, 50, channel=1),
                off(480, 64, channel=3),
                off(480, 60, channel=3),
                Message("program_change", program=5, channel=1, time=480),
                on(480, 51, channel=1),
                off(490, 51, channel=1),
            ],
            [on(0, 36, channel=9), off(1, 36, channel=9)],
        ]
    )
    song = read_song(content, LIMITS)
    assert [(t.index, t.program, t.is_drum, t.pitch.tolist()) for t in song.tracks] == [
        (0, 0, False, [50]),
        (1, 5, False, [51]),
        (2, 0, False, [60, 64]),
        (3, 0, True, [36]),
    ]
    assert song.tracks[2].end_s.tolist() == [0.5, 0.5]
    assert song.end_s == pytest.approx(490 / 960)


# --- the kinds of difference from pretty_midi, and which reading is right


def test_tempo_outside_the_first_track_counts():
    """Ours is right: players merge the tracks, and mido's playback does. pretty_midi looks at the first track only."""
    content = file_bytes(
        [
            [Meta("track_name", name="no tempo here", time=0)],
            [Meta("set_tempo", tempo=250_000, time=0), Meta("set_tempo", tempo=1_000_000, time=480)],
            [on(960, 60), off(1440, 60)],
        ]
    )
    played, now = [], 0.0
    for message in mido.MidiFile(file=io.BytesIO(content)):
        now += message.time
        if message.type.startswith("note"):
            played.append(now)
    (track,) = read_song(content, LIMITS).tracks
    assert [track.start_s[0], track.end_s[0]] == pytest.approx(played)
    assert pretty_notes(content)[0][0][4] == 1.0 != pytest.approx(played[0])


def test_last_of_several_tempos_at_a_tick_counts():
    """As a player would have it: track by track, in the order of each. Both readers agree."""
    content = file_bytes(
        [
            [Meta("set_tempo", tempo=900_000, time=0), Meta("set_tempo", tempo=500_000, time=0)],
            [Meta("set_tempo", tempo=250_000, time=0), on(0, 60), off(480, 60)],
        ]
    )
    assert read_song(content, LIMITS).end_s == 0.25


def test_a_note_ends_where_its_pitch_is_struck_again_or_released():
    """Ours is right: a key has one state, and FluidSynth does the same (next test). pretty_midi lets the first note-off
    end both notes; pairing each note-on with a note-off of its own lets both sound past it, and goes astray for the
    rest of the song where one note-off is missing."""
    content = file_bytes([[on(0, 60), on(480, 60), off(960, 60), off(1440, 60), on(1920, 60), off(2400, 60)]])
    assert intervals(read_song(content, LIMITS)) == [(0, 480, 60), (480, 960, 60), (1920, 2400, 60)]
    assert [note[4:] for note in pretty_notes(content)[0]] == [(0.0, 1.0), (0.5, 1.0), (2.0, 2.5)]


def test_fluidsynth_silences_a_key_struck_twice_at_the_first_note_off():
    import fluidsynth

    synth = fluidsynth.Synth(samplerate=24_000.0)
    font = synth.sfload(os.path.join(os.path.dirname(pretty_midi.__file__), "TimGM6mb.sf2"))
    synth.program_select(0, font, 0, 16)  # an organ, which sounds as long as its key is held
    synth.noteon(0, 60, 100)
    synth.get_samples(4800)
    synth.noteon(0, 60, 100)
    held = np.abs(synth.get_samples(24_000)[-4800:]).max()
    synth.noteoff(0, 60)
    released = np.abs(synth.get_samples(48_000)[-4800:]).max()
    synth.delete()
    assert held > 1000
    assert released < held / 100


@pytest.mark.parametrize("missing", [1, 3, 40])
def test_missing_note_offs_do_not_shift_the_rest(missing):
    song = [on(10 * n, 60) for n in range(missing + 1)] + [off(960, 60)]
    song += [event for n in range(3, 9) for event in (on(480 * n, 60), off(480 * n + 240, 60))]
    fast, lenient = both_ways(file_bytes([song]))
    assert isinstance(lenient, Song)
    assert (fast is None) == (missing > 1)  # symusic drops all but two notes without a note-off
    assert fast is None or intervals(fast) == intervals(lenient)
    before = [(10 * n, 10 * n + 10, 60) for n in range(missing)] + [(10 * missing, 960, 60)]
    assert intervals(lenient) == before + [(480 * n, 480 * n + 240, 60) for n in range(3, 9)]


def test_a_note_without_a_note_off_on_each_key_and_track_is_read_by_the_fast_reader():
    tracks = [[on(0, pitch), off(480, pitch), on(960, pitch), on(1920, 72), off(2400, 72)] for pitch in (60, 64)]
    fast, lenient = both_ways(file_bytes(tracks))
    assert isinstance(fast, Song)
    assert isinstance(lenient, Song)
    assert fast.pack() == replace(lenient, rules=1).pack()


@pytest.mark.parametrize(("port", "is_fast"), [(0, True), (1, False)])
def test_the_first_port_changes_nothing(port, is_fast):
    """A track of another port has channels of its own."""
    content = file_bytes([[Meta("midi_port", port=port), on(0, 60), off(480, 60)], [on(0, 64), off(480, 64)]])
    fast, lenient = both_ways(content)
    assert isinstance(lenient, Song)
    assert (fast is not None) == is_fast
    assert not isinstance(fast, Song) or fast.pack() == replace(lenient, rules=1).pack()


def test_missing_note_offs_across_programs():
    """The fourth note without an end is another instrument's."""
    change = Message("program_change", program=40, time=35)
    events = [on(10 * n, 60) for n in range(4)] + [change] + [on(40 + 10 * n, 60) for n in range(3)]
    fast, lenient = both_ways(file_bytes([events]))
    assert fast is None
    assert isinstance(lenient, Song)
    assert [len(track.pitch) for track in lenient.tracks] == [3, 2]


def test_two_notes_struck_at_once_sound_alike():
    """As pretty_midi has them: both are kept, neither cuts the other."""
    content = file_bytes([[on(0, 60, 50), on(0, 60, 70), off(480, 60), off(480, 60)]])
    assert intervals(read_song(content, LIMITS)) == [(0, 480, 60), (0, 480, 60)]
    assert len(pretty_notes(content)[0]) == 2


def test_a_note_off_at_the_tick_of_a_note_is_an_older_notes():
    """Ours is right where an older note is owed it; pretty_midi takes it to end the new note at once."""
    events = [on(0, 60), on(240, 60), off(480, 60), on(960, 60), off(960, 60), off(1440, 60)]
    content = file_bytes([events])
    assert intervals(read_song(content, LIMITS)) == [(0, 240, 60), (240, 480, 60), (960, 1440, 60)]
    assert len(pretty_notes(content)[0]) == 2


def test_notes_of_no_length_are_left_out_by_both():
    """A key released when it is struck is silent; symusic alone would keep the note."""
    content = file_bytes([[on(0, 60), off(0, 60), on(480, 62), off(960, 62), on(1920, 60), off(2400, 60)]])
    assert intervals(read_song(content, LIMITS)) == [(480, 960, 62), (1920, 2400, 60)]
    assert [note[4:] for note in pretty_notes(content)[0]] == [(0.5, 1.0), (2.0, 2.5)]


def test_note_off_after_note_on_at_one_tick_ends_the_older_note():
    content = file_bytes([[on(0, 60), on(480, 60), off(480, 60), off(960, 60)]])
    assert intervals(read_song(content, LIMITS)) == [(0, 480, 60), (480, 960, 60)]


def test_a_note_keeps_the_program_it_began_with():
    """Ours is right: a program change concerns the notes that follow. pretty_midi looks when the note ends."""
    change = Message("program_change", program=40, time=240)
    content = file_bytes([[on(0, 60), change, off(480, 60)]])
    assert read_song(content, LIMITS).tracks[0].program == 0
    assert pretty_notes(content)[0][0][0] == 40


def test_notes_that_neither_end_nor_are_struck_again_are_left_out_by_both():
    content = file_bytes([[on(0, 60), on(0, 64), off(480, 64)]])
    assert intervals(read_song(content, LIMITS)) == [(0, 480, 64)]
    assert len(pretty_notes(content)[0]) == 1


def test_a_note_struck_again_without_a_note_off_has_sounded():
    """Ours is right; pretty_midi drops both."""
    content = file_bytes([[on(0, 60), on(480, 60), on(480, 64), off(960, 64)]])
    assert intervals(read_song(content, LIMITS)) == [(0, 480, 60), (480, 960, 64)]
    assert len(pretty_notes(content)[0]) == 1


def test_tempo_of_zero_is_passed_over():
    """pretty_midi divides by it."""
    content = file_bytes([[Meta("set_tempo", tempo=0, time=0), on(0, 60), off(480, 60)]])
    assert read_song(content, LIMITS).end_s == 0.5


def sounding_by_definition(events: list) -> list[tuple[int, int, int]]:
    """Notes of one channel whose note-offs each follow their note-on, event by event."""
    starts, notes = {}, []
    for message in sorted(events, key=lambda message: message.time):
        for start in starts.pop(message.note, []) if message.time else []:
            notes.append((start, message.time, message.note))
        if message.type == "note_on":
            starts.setdefault(message.note, []).append(message.time)
    return sorted(notes)


@pytest.mark.parametrize("seed", range(8))
def test_overlapping_notes_by_definition(seed):
    """All notes of three pitches, many of them overlapping; no two events at one tick."""
    rng = random.Random(seed)
    ticks = iter(sorted(rng.sample(range(1, 5000), 300)))
    waiting: list[int] = []
    events: list = []
    for tick in ticks:
        if waiting and rng.random() < 0.5:
            events.append(off(tick, waiting.pop(rng.randrange(len(waiting)))))
        else:
            waiting.append(60 + rng.randrange(3))
            events.append(on(tick, waiting[-1]))
    events += [off(6000 + n, pitch) for n, pitch in enumerate(waiting)]
    fast, lenient = both_ways(file_bytes([events]))
    assert isinstance(fast, Song)
    assert isinstance(lenient, Song)
    assert_same(fast, lenient)
    assert sorted(intervals(fast)) == sounding_by_definition(events)


# --- time division and formats


@pytest.mark.parametrize(
    ("frames", "ticks", "second"), [(24, 80, 1920), (25, 40, 1000), (30, 100, 3000), (29, 100, 3000 / 1.001)]
)
def test_smpte_time_ignores_tempo(frames, ticks, second):
    events = b"\x00\xff\x51\x03\x01\x00\x00\x00\x90\x3c\x40\x8f\x00\x80\x3c\x40\x00\xff\x2f\x00"  # 15 * 128 ticks
    song = read_song(raw_file(chunk(events), division=(256 - frames) << 8 | ticks), LIMITS)
    assert song.end_s == pytest.approx(1920 / second, rel=1e-12)


def test_each_track_of_format_2_has_its_own_tempo():
    content = file_bytes(
        [
            [Meta("set_tempo", tempo=250_000, time=0), on(0, 60), off(480, 60)],
            [Meta("set_tempo", tempo=1_000_000, time=0), on(0, 62), off(480, 62)],
        ],
        form=2,
    )
    assert [float(track.end_s[0]) for track in read_song(content, LIMITS).tracks] == [0.25, 1.0]

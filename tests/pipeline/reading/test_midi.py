"""Reading MIDI files: against pretty_midi and mido, the fast reader against the lenient one, and damage."""

import io
import os
import random
import struct
import warnings
from collections.abc import Iterable

import mido
import numpy as np
import pretty_midi
import pytest

from data_specs.spec import Limits
from pipeline.reading import midi
from pipeline.reading.midi import SandboxedReader, read_song
from pipeline.reading.smf import layout
from pipeline.reading.song import Song
from pipeline.rejects import Rejected
from tests.faults.damage import mutated

LIMITS = Limits()
Message = mido.Message
Meta = mido.MetaMessage


def file_bytes(tracks: Iterable[list], tpq: int = 480, form: int = 1) -> bytes:
    """A MIDI file of tracks whose messages carry absolute ticks."""
    made = mido.MidiFile(type=form, ticks_per_beat=tpq)
    for messages in tracks:
        track = mido.MidiTrack()
        tick = 0
        for message in messages:
            track.append(message.copy(time=message.time - tick))
            tick = message.time
        made.tracks.append(track)
    buffer = io.BytesIO()
    made.save(file=buffer)
    return buffer.getvalue()


def chunk(events: bytes, tag: bytes = b"MTrk") -> bytes:
    return tag + struct.pack(">I", len(events)) + events


def raw_file(*tracks: bytes, division: int = 480, form: int = 1, announced: int | None = None) -> bytes:
    count = len(tracks) if announced is None else announced
    return b"MThd" + struct.pack(">IHHH", 6, form, count, division) + b"".join(tracks)


def on(tick: int, pitch: int, velocity: int = 64, channel: int = 0) -> Message:
    return Message("note_on", time=tick, note=pitch, velocity=velocity, channel=channel)


def off(tick: int, pitch: int, channel: int = 0) -> Message:
    return Message("note_off", time=tick, note=pitch, channel=channel)


def random_song(seed: int) -> bytes:
    """Several tracks and channels, program changes, tempos in the first track, no note overlapping another of its
    pitch and channel."""
    rng = random.Random(seed)
    first: list = [Meta("set_tempo", tempo=rng.randrange(200_000, 900_000), time=0)]
    first += [
        Meta("set_tempo", tempo=rng.randrange(200_000, 900_000), time=tick)
        for tick in sorted(rng.sample(range(1, 40_000), 12))
    ]
    tracks = [first]
    for _ in range(rng.randrange(1, 5)):
        messages: list = [Meta("track_name", name=f"part {rng.randrange(9)}", time=0)]
        for channel in rng.sample(range(16), 2):
            tick = 0
            messages.append(Message("program_change", program=rng.randrange(128), channel=channel, time=0))
            for _ in range(60):
                pitch, length = rng.randrange(128), rng.randrange(1, 400)
                tick += rng.randrange(0, 300)
                messages += [on(tick, pitch, rng.randrange(1, 128), channel), off(tick + length, pitch, channel)]
                messages.append(Message("control_change", control=7, value=rng.randrange(128), time=tick))
                tick += length
        tracks.append(sorted(messages, key=lambda message: (message.time, message.type == "note_on")))
    return file_bytes(tracks, tpq=rng.choice([96, 480, 960]))


def pretty_notes(content: bytes) -> list[list[tuple]]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        song = pretty_midi.PrettyMIDI(io.BytesIO(content))
    kept = [i for i in song.instruments if i.notes]
    return sorted(
        [
            (int(i.program), i.is_drum, n.pitch, n.velocity, round(float(n.start), 6), round(float(n.end), 6))
            for n in sorted(i.notes, key=lambda n: (n.start, n.pitch))
        ]
        for i in kept
    )


def our_notes(song: Song) -> list[list[tuple]]:
    return sorted(
        [
            (t.program, t.is_drum, int(p), int(v), round(float(s), 6), round(float(e), 6))
            for p, v, s, e in zip(t.pitch, t.velocity, t.start_s, t.end_s, strict=True)
        ]
        for t in song.tracks
    )


def intervals(song: Song) -> list[tuple[int, int, int]]:
    """(start tick, end tick, pitch) of all notes."""
    return [
        note
        for track in song.tracks
        for note in zip(track.start_tick.tolist(), track.end_tick.tolist(), track.pitch.tolist(), strict=True)
    ]


def assert_same(a: Song, b: Song) -> None:
    assert (a.end_s, a.mended, len(a.tracks)) == (b.end_s, b.mended, len(b.tracks))
    for x, y in zip(a.tracks, b.tracks, strict=True):
        assert (x.index, x.program, x.is_drum, x.name) == (y.index, y.program, y.is_drum, y.name)
        for key in ("start_tick", "end_tick", "start_s", "end_s", "pitch", "velocity"):
            assert getattr(x, key).dtype == getattr(y, key).dtype
            np.testing.assert_array_equal(getattr(x, key), getattr(y, key))


def both_ways(content: bytes) -> tuple[Song | tuple | None, Song | tuple]:
    """What the fast reader says (None where it is not asked or refuses) and what the lenient one says."""

    def outcome(reader) -> Song | tuple | None:
        try:
            return reader(content, plan, LIMITS)
        except Rejected as rejected:
            return rejected.args

    try:
        plan = layout(content)
    except Rejected as rejected:
        return None, rejected.args
    return outcome(midi._read_fast), outcome(midi._read_around_damage)


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


@pytest.mark.parametrize("missing", [1, 3, 4, 40])
def test_missing_note_offs_do_not_shift_the_rest(missing):
    song = [on(10 * n, 60) for n in range(missing + 1)] + [off(960, 60)]
    song += [event for n in range(3, 9) for event in (on(480 * n, 60), off(480 * n + 240, 60))]
    fast, lenient = both_ways(file_bytes([song]))
    assert isinstance(lenient, Song)
    if missing > 3:  # symusic pairs and drops, and is asked for no more than it can tell
        assert fast is None
    else:
        assert isinstance(fast, Song)
        assert_same(fast, lenient)
    before = [(10 * n, 10 * n + 10, 60) for n in range(missing)] + [(10 * missing, 960, 60)]
    assert intervals(lenient) == before + [(480 * n, 480 * n + 240, 60) for n in range(3, 9)]


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


# --- damage

NOTE = b"\x00\x90\x3c\x40\x83\x60\x80\x3c\x00"  # C4 for 480 ticks
END = b"\x00\xff\x2f\x00"
C4 = (0, 480, 60)


@pytest.mark.parametrize(
    ("content", "notes", "mended"),
    [
        pytest.param(raw_file(chunk(b"\x00\xff\x59\x02\x0c\x07" + NOTE + END)), [C4], (), id="key signature"),
        pytest.param(raw_file(chunk(b"\x00\x90\x3c\xc8\x83\x60\x80\x3c\x00")), [C4], ("data byte",), id="velocity"),
        pytest.param(raw_file(chunk(b"\x00\x90\xc8\x40" + NOTE + END)), [C4], ("data byte",), id="pitch"),
        pytest.param(raw_file(chunk(b"\x00\xc0\xc8" + NOTE + END)), [C4], ("data byte",), id="program"),
        pytest.param(raw_file(chunk(NOTE)), [C4], (), id="no end of track"),
        pytest.param(raw_file(chunk(NOTE + NOTE[:7])), [C4], ("track cut short",), id="event cut"),
        pytest.param(raw_file(chunk(NOTE + END))[:-2], [C4], ("chunk length", "track cut short"), id="file cut"),
        pytest.param(
            raw_file(chunk(NOTE + b"\x00\xff\x01\x7f")), [C4], ("track cut short",), id="text longer than the track"
        ),
        pytest.param(raw_file(chunk(NOTE + b"\x00\xf4" + NOTE)), None, ("undefined status",), id="undefined status"),
        pytest.param(
            raw_file(chunk(b"\x00\x3c\x40" + NOTE), chunk(NOTE)), [C4], ("event without status",), id="no status"
        ),
        pytest.param(raw_file(chunk(NOTE + END), announced=9), [C4], (), id="fewer tracks than announced"),
        pytest.param(raw_file(chunk(NOTE + END), announced=0), [C4], ("header",), id="no tracks announced"),
        pytest.param(raw_file(chunk(NOTE + END), form=7), [C4], ("header",), id="unknown format"),
        pytest.param(b"RIFF\0\0\0\0RMIDdata\0\0\0\0" + raw_file(chunk(NOTE + END)), [C4], ("header",), id="RIFF"),
        pytest.param(raw_file(chunk(b"junk", b"XFIH"), chunk(NOTE + END)), [C4], (), id="foreign chunk"),
        pytest.param(raw_file(chunk(NOTE + END)) + b"trailing", [C4], (), id="trailing bytes"),
        pytest.param(
            raw_file(b"MTrk\x00\x00\x00\x03" + NOTE + END, chunk(NOTE + END)), None, ("chunk length",), id="short chunk"
        ),
        pytest.param(
            raw_file(b"MTrk\x00\xff\x00\x03" + NOTE + END, chunk(NOTE + END)), None, ("chunk length",), id="long chunk"
        ),
        pytest.param(
            raw_file(chunk(b"\x00\xf7\x03\x90\x10\x20" + NOTE + END)), [C4], (), id="F7 event is not a byte of its own"
        ),
        pytest.param(raw_file(chunk(b"\x00\xff\x51\x01\x07" + NOTE + END)), [C4], (), id="short tempo"),
        pytest.param(
            raw_file(chunk(b"\x00\x90\x3c\x40\x00\xf0\x02\x41\xf7\x83\x60\x3c\x00" + END)), [C4], (), id="status kept"
        ),
        pytest.param(
            raw_file(chunk(b"\x00\x90\x3c\x40\x00\xf8\x83\x60\x3c\x00" + END)), [C4], (), id="status kept in real time"
        ),
    ],
)
def test_damage_costs_as_little_as_possible(content, notes, mended):
    """Two tracks with one note each where `notes` is None, or the note twice in a row."""
    song = read_song(content, LIMITS)
    found = intervals(song)
    if notes is None:
        assert len(found) == 2
        assert found[0] == C4
    else:
        assert found == notes
    assert song.mended == mended
    fast, lenient = both_ways(content)
    if fast is not None:
        assert_same(fast, lenient)


def test_velocity_above_127_is_127():
    song = read_song(raw_file(chunk(b"\x00\x90\x3c\xc8\x83\x60\x80\x3c\x00")), LIMITS)
    assert song.tracks[0].velocity.tolist() == [127]


@pytest.mark.parametrize(("raw", "name"), [("Flûte".encode(), "Flûte"), ("Flûte".encode("latin-1"), "Flûte")])
def test_track_names_in_utf_8_or_latin_1(raw, name):
    content = raw_file(chunk(b"\x00\xff\x03" + bytes([len(raw)]) + raw + NOTE + END))
    assert read_song(content, LIMITS).tracks[0].name == name


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "empty file"),
        (bytes(99), "empty file"),
        (b"PK\x03\x04" + bytes(50), "ZIP archive"),
        (b"\xef\xbb\xbf\n <!DOCTYPE HTML><title>404</title>", "HTML page"),
        (b"GIF89a" + bytes(50), "not MIDI"),
        (b"MThd\x00\x00", "damaged header"),
        (raw_file(), "no tracks"),
        (raw_file(chunk(NOTE), division=0), "division of time"),
        (raw_file(chunk(NOTE), division=(256 - 17) << 8 | 4), "division of time"),
        (raw_file(chunk(END)), "no notes"),
    ],
)
def test_what_is_no_song_is_rejected_under_its_own_reason(content, reason):
    with pytest.raises(Rejected) as caught:
        read_song(content, LIMITS)
    assert caught.value.reason == reason


@pytest.mark.parametrize(
    ("limits", "reason"),
    [
        ({"file_bytes": 500}, "file too large"),
        ({"events": 201}, "too many events"),
        ({"notes": 99}, "too many notes"),
        ({"largest_tick": 99}, "ticks too large"),
    ],
)
def test_limits_are_exact_and_the_same_for_both_readers(limits, reason):
    """A program change, 200 note events and the end of the track: 202 events, and 100 notes up to tick 100."""
    events = b"".join(b"\x00\x90%c\x40\x01%c\x00" % (60 + n % 9, 60 + n % 9) for n in range(100))
    for program in (b"\x05", b"\xff"):  # sound and damaged
        content = raw_file(chunk(b"\x00\xc0" + program + events + END))
        assert (both_ways(content)[0] is None) == (program == b"\xff")
        assert 500 < len(content) < 1000
        within = {"file_bytes": 1000, "events": 202, "notes": 100, "largest_tick": 100}
        read_song(content, Limits(**within))
        with pytest.raises(Rejected) as caught:
            read_song(content, Limits(**(within | limits)))
        assert caught.value.reason == reason


def test_ticks_beyond_31_bits_do_not_wrap():
    longest = b"\xff\xff\xff\x7f"
    events = (longest + b"\x90\x3c\x00") * 20 + NOTE + END
    with pytest.raises(Rejected, match="ticks too large"):
        read_song(raw_file(chunk(events)), LIMITS)


# --- fuzzing


def test_mutated_files_are_read_alike_by_both_readers_or_rejected():
    rng = random.Random(20)
    whole = [random_song(seed) for seed in range(6)]
    compared = 0
    for _ in range(1200):
        fast, lenient = both_ways(mutated(rng.choice(whole), rng))
        if isinstance(fast, Song):
            assert isinstance(lenient, Song)
            assert_same(fast, lenient)
            compared += 1
        elif fast is not None:
            assert fast == lenient
    assert compared > 100  # or the mutations leave nothing to compare


# --- packing, and the child process


def test_packed_songs_come_back_whole():
    song = read_song(random_song(3), LIMITS)
    assert_same(Song.unpack(song.pack()), song)


def test_forged_songs_are_refused():
    packed = read_song(random_song(3), LIMITS).pack()
    rng = random.Random(0)
    for forged in [b"", packed[:-1], packed + b"\0", *(packed[:at] for at in range(0, 200, 7))]:
        with pytest.raises(ValueError, match="not a packed song"):
            Song.unpack(forged)
    for _ in range(300):
        data = bytearray(packed)
        data[rng.randrange(300)] = rng.randrange(256)
        try:
            Song.unpack(bytes(data))
        except ValueError as error:
            assert "not a packed song" in str(error)  # noqa: PT017


def test_sandboxed_reader_gives_the_same_songs_and_rejections():
    content = random_song(4)
    with SandboxedReader(Limits(file_bytes=len(content))) as reader:
        assert_same(reader(content), read_song(content, LIMITS))
        for bad, reason in [(b"", "empty file"), (raw_file(chunk(END)), "no notes"), (bytes(10**6), "file too large")]:
            with pytest.raises(Rejected) as caught:
                reader(bad)
            assert caught.value.reason == reason
        assert_same(reader(content), read_song(content, LIMITS))

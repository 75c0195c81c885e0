"""Damaged, unusual and hostile MIDI files: what is read around, what is rejected, and the child process."""

import random
import struct

import pytest

from data_specs.spec import Limits
from pipeline.midi.reader import SandboxedReader, read_song
from pipeline.midi.song import Song
from pipeline.rejects import Rejected
from tests.faults.damage import mutated
from tests.pipeline.midi.made_midi import (
    LIMITS,
    assert_same,
    both_ways,
    chunk,
    intervals,
    random_song,
    raw_file,
)

# --- damage


def riff(content: bytes) -> bytes:
    """An RMID file with a trailing chunk."""
    body = b"RMIDdata" + struct.pack("<I", len(content)) + content + bytes(len(content) % 2) + b"LIST\x04\0\0\0INFO"
    return b"RIFF" + struct.pack("<I", len(body)) + body


NOTE = b"\x00\x90\x3c\x40\x83\x60\x80\x3c\x00"  # C4 for 480 ticks
END = b"\x00\xff\x2f\x00"
C4 = (0, 480, 60)


@pytest.mark.parametrize(
    ("content", "notes", "repaired"),
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
        pytest.param(raw_file(chunk(END), chunk(NOTE), announced=1), [C4], ("header",), id="fewer announced"),
        pytest.param(
            raw_file(chunk(END), chunk(b"x", b"XFIH"), chunk(NOTE), announced=1),
            [C4],
            ("header",),
            id="foreign, then track",
        ),
        pytest.param(raw_file(chunk(NOTE)) + raw_file(chunk(NOTE)), [C4], (), id="another file behind"),
        pytest.param(riff(raw_file(chunk(NOTE + END))), [C4], (), id="RMID"),
        pytest.param(raw_file(chunk(NOTE + END), form=7), [C4], ("header",), id="unknown format"),
        pytest.param(
            b"RIFF\0\0\0\0RMIDdata\0\0\0\0" + raw_file(chunk(NOTE + END)), [C4], ("header",), id="RIFF of no length"
        ),
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
def test_damage_costs_as_little_as_possible(content, notes, repaired):
    """Two tracks with one note each where `notes` is None, or the note twice in a row."""
    song = read_song(content, LIMITS)
    found = intervals(song)
    if notes is None:
        assert len(found) == 2
        assert found[0] == C4
    else:
        assert found == notes
    assert song.repaired == repaired
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

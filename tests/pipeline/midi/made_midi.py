"""MIDI files made for tests, and songs in forms that can be compared."""

import io
import random
import struct
import warnings
from collections.abc import Iterable

import mido
import numpy as np
import pretty_midi

from data_specs.spec import Limits
from pipeline.midi import smf, symusic_reader
from pipeline.midi.reader import sounding_song
from pipeline.midi.song import Song
from pipeline.rejects import Rejected

LIMITS = Limits()
Message = mido.Message
Meta = mido.MetaMessage


def file_bytes(tracks: Iterable[list], tpq: int = 480, form: int = 1) -> bytes:
    """A MIDI file of tracks whose messages carry absolute ticks."""
    made = mido.MidiFile(type=1, ticks_per_beat=tpq)  # mido refuses several tracks in format 0
    for messages in tracks:
        track = mido.MidiTrack()
        tick = 0
        for message in messages:
            track.append(message.copy(time=message.time - tick))
            tick = message.time
        made.tracks.append(track)
    buffer = io.BytesIO()
    made.save(file=buffer)
    return buffer.getvalue()[:8] + struct.pack(">H", form) + buffer.getvalue()[10:]


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
    """Several tracks with channels of their own, program changes and tempos in the first track.

    No note overlaps another of its pitch and channel.
    """
    rng = random.Random(seed)
    first: list = [Meta("set_tempo", tempo=rng.randrange(200_000, 900_000), time=0)]
    first += [
        Meta("set_tempo", tempo=rng.randrange(200_000, 900_000), time=tick)
        for tick in sorted(rng.sample(range(1, 40_000), 12))
    ]
    tracks = [first]
    channels = rng.sample(range(16), 16)
    for number in range(rng.randrange(1, 5)):
        messages: list = [Meta("track_name", name=f"part {rng.randrange(9)}", time=0)]
        for channel in channels[2 * number : 2 * number + 2]:
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
    assert (a.end_s, a.repaired, len(a.tracks)) == (b.end_s, b.repaired, len(b.tracks))
    for x, y in zip(a.tracks, b.tracks, strict=True):
        assert (x.index, x.program, x.is_drum, x.name) == (y.index, y.program, y.is_drum, y.name)
        for key in ("start_tick", "end_tick", "start_s", "end_s", "pitch", "velocity"):
            assert getattr(x, key).dtype == getattr(y, key).dtype
            np.testing.assert_array_equal(getattr(x, key), getattr(y, key))


def both_ways(content: bytes) -> tuple[Song | tuple | None, Song | tuple]:
    """Results of the fast reader (None if it does not take the file) and of the tolerant one; rejections as tuples."""

    def outcome(read) -> Song | tuple | None:
        try:
            raw = read(content, smf.index_chunks(content), LIMITS)
            return None if raw is None else sounding_song(raw, LIMITS)
        except Rejected as rejected:
            return rejected.args

    return outcome(symusic_reader.read_notes), outcome(smf.read_notes)

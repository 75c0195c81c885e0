"""Random MIDI files with the size and properties of songs on the web.

They have six to twelve tracks over a cycle of chords (melodies with bends and swells, held and broken chords, bass,
drums), controllers, running status, tempo changes and texts. One file in twenty is damaged: it is truncated, or a data
byte has its high bit set.
"""

import io
from collections.abc import Iterator

import mido
import numpy as np

SMALLEST, LARGEST = 20_000, 80_000  # approximate range of the size in bytes, log-uniform
DAMAGED = 20  # one file in 20
BYTES_A_MESSAGE = 3.6  # with delta time and running status
DEGREES = (0, 2, 4, 5, 7, 9, 11)  # semitones of the major scale
CYCLES = ((0, 4, 5, 3), (0, 5, 3, 4), (5, 3, 0, 4), (1, 4, 0, 0), (0, 3, 0, 4))  # degrees of the roots of the chords
PARTS = ("melody", "bass", "held", "broken", "drums", "melody", "held", "broken", "melody", "held", "broken")
PROGRAMS = {"melody": (40, 65, 73, 56, 80), "bass": (32, 33, 38), "held": (0, 48, 52, 89), "broken": (0, 24, 25, 46)}
DRUM_CHANNEL = 9
KICK, SNARE, CLOSED, OPEN, CRASH = 36, 38, 42, 46, 49
SETTINGS = {0: 0, 7: 100, 10: 64, 91: 40, 93: 20, 101: 0, 100: 0, 6: 12}  # bank, volume, pan, effects, range of bends

Events = list[tuple[int, mido.Message | mido.MetaMessage]]  # time in ticks, and message


def songs(count: int, seed: int = 0) -> Iterator[bytes]:
    """Yield `count` MIDI files; file i is a function of (seed, i), and every twentieth is damaged."""
    for number in range(count):
        rng = np.random.default_rng([seed, number])
        content = song(rng)
        yield damaged(content, rng) if number % DAMAGED == DAMAGED - 1 else content


def song(rng: np.random.Generator) -> bytes:
    """Return a well-formed MIDI file, a function of the state of `rng`."""
    quarter = int(rng.choice([96, 120, 192, 384, 480]))
    size = np.exp(rng.uniform(np.log(SMALLEST), np.log(LARGEST)))
    key, cycle = int(rng.integers(12)), CYCLES[rng.integers(len(CYCLES))]
    parts = PARTS[: rng.integers(5, len(PARTS) + 1)]
    channels = iter(channel for channel in range(16) if channel != DRUM_CHANNEL)
    tracks = [BandPart(kind, DRUM_CHANNEL if kind == "drums" else next(channels), quarter, rng) for kind in parts]
    bar = 0
    while sum(len(track.events) for track in tracks) * BYTES_A_MESSAGE < size:
        for track in tracks:
            track.play(bar, key, cycle[bar % len(cycle)])
        bar += 1
    return file_of([conducted(bar, quarter, rng), *(track.events for track in tracks)], quarter)


def damaged(content: bytes, rng: np.random.Generator) -> bytes:
    """Return `content` truncated in its last quarter, or with the high bit of one byte there set, by `rng`.

    If the high bit of that byte is set already, the content is unchanged.
    """
    place = int(rng.integers(len(content) * 3 // 4, len(content) - 8))
    if rng.integers(2):
        return content[:place]
    return content[:place] + bytes([content[place] | 0x80]) + content[place + 1 :]


def conducted(bars: int, quarter: int, rng: np.random.Generator) -> Events:
    """Return the first track: texts, a system-exclusive message, time signature, and a tempo every eight bars.

    Args:
        bars: number of bars.
        quarter: ticks of a quarter note.
        rng: source of random numbers.
    """
    events: Events = [
        (0, mido.MetaMessage("track_name", name="Song")),
        (0, mido.MetaMessage("copyright", text="composed from a seed")),
        (0, mido.Message("sysex", data=[0x7E, 0x7F, 0x09, 0x01])),
        (0, mido.MetaMessage("time_signature", numerator=4, denominator=4)),
    ]
    tempo = int(60e6 / rng.uniform(70, 160))
    for bar in range(0, bars, 8):
        events.append((bar * 4 * quarter, mido.MetaMessage("set_tempo", tempo=int(tempo * rng.uniform(0.97, 1.03)))))
        events.append((bar * 4 * quarter, mido.MetaMessage("marker", text=f"bar {bar + 1}")))
    return events


class BandPart:
    """A track of the song; `play` adds a bar to its events.

    Args:
        kind: one of PARTS.
        channel: MIDI channel.
        quarter: ticks of a quarter note.
        rng: source of random numbers.

    Attributes:
        events: (time in ticks, message), in no fixed order.
    """

    def __init__(self, kind: str, channel: int, quarter: int, rng: np.random.Generator) -> None:
        self.kind, self.channel, self.quarter, self.rng = kind, channel, quarter, rng
        self.ends_by_velocity = bool(rng.integers(2))  # notes end by note-on with velocity 0
        self.events: Events = [(0, mido.MetaMessage("track_name", name=kind))]
        if kind != "drums":
            self._send(0, "program_change", program=int(rng.choice(PROGRAMS[kind])))
        for control, value in SETTINGS.items():
            self._send(0, "control_change", control=control, value=value)

    def play(self, bar: int, key: int, degree: int) -> None:
        """Add bar number `bar` (0, 1, ...) with the chord on `degree` (0 to 6) of the major scale of `key` (0: C)."""
        getattr(self, f"_{self.kind}")(bar * 4.0, key, degree)

    def _melody(self, beat: float, key: int, degree: int) -> None:
        """Add a swell, and eighths and quarters near the chord, a few with bends; the last may pass the bar's end."""
        for step in range(6):
            value = int(70 + 50 * np.sin(np.pi * step / 6))
            self._send(self._tick(beat + step / 1.5), "control_change", control=11, value=value)
        at = 0.0
        while at < 4:
            length = float(self.rng.choice([0.5, 0.5, 1.0]))
            self._note(beat + at, 0.95 * length, pitch(key, degree + int(self.rng.integers(-3, 5)), 72))
            if self.rng.random() < 0.05:
                for step in range(10):
                    bend = int(2000 * np.sin(2 * np.pi * step / 10))
                    self._send(self._tick(beat + at + length * step / 10), "pitchwheel", pitch=bend)
            at += length

    def _bass(self, beat: float, key: int, degree: int) -> None:
        for eighth in range(8):
            self._note(beat + eighth / 2, 0.4, pitch(key, degree if eighth % 4 else degree + 4 * (eighth // 4), 36))

    def _held(self, beat: float, key: int, degree: int) -> None:
        """Add the chord twice in the bar, with the pedal."""
        for half in (0, 2):
            self._send(self._tick(beat + half), "control_change", control=64, value=127)
            for third in range(4):
                self._note(beat + half, 1.9, pitch(key, degree + 2 * third, 55))
            self._send(self._tick(beat + half + 1.95), "control_change", control=64, value=0)

    def _broken(self, beat: float, key: int, degree: int) -> None:
        for sixteenth in range(16):
            self._note(beat + sixteenth / 4, 0.22, pitch(key, degree + (0, 2, 4, 7)[sixteenth % 4], 60))

    def _drums(self, beat: float, key: int, degree: int) -> None:
        for eighth in range(8):
            self._note(beat + eighth / 2, 0.1, OPEN if eighth == 7 else CLOSED)
            if eighth % 2 == 0:
                self._note(beat + eighth / 2, 0.1, SNARE if eighth % 4 else KICK)
        if degree == 0:
            self._note(beat, 0.5, CRASH)

    def _note(self, beat: float, length: float, note: int) -> None:
        """Add a note at `beat` of `length` beats, shifted by up to three random ticks, with a random velocity."""
        begin = max(0, self._tick(beat) + int(self.rng.integers(-3, 4)))
        self._send(begin, "note_on", note=note, velocity=int(self.rng.integers(50, 120)))
        end = begin + max(1, self._tick(length))
        kind, velocity = ("note_on", 0) if self.ends_by_velocity else ("note_off", 64)
        self._send(end, kind, note=note, velocity=velocity)

    def _send(self, tick: int, kind: str, **values: int) -> None:
        self.events.append((tick, mido.Message(kind, channel=self.channel, skip_checks=True, **values)))

    def _tick(self, beat: float) -> int:
        return round(beat * self.quarter)


def pitch(key: int, degree: int, lowest: int) -> int:
    """Return the MIDI pitch of a degree of the major scale of `key`; degrees below 0 and above 6 are in other octaves.

    Degree 0 is `lowest` or up to 11 semitones above it.
    """
    return lowest + (key - lowest) % 12 + 12 * (degree // 7) + DEGREES[degree % 7]


def file_of(tracks: list[Events], quarter: int) -> bytes:
    """Return a MIDI file of format 1 with these tracks, sorted by time; `quarter` is the ticks of a quarter note."""
    made = mido.MidiFile(type=1, ticks_per_beat=quarter)
    for events in tracks:
        track, now = mido.MidiTrack(), 0
        for tick, message in sorted(events, key=lambda event: event[0]):
            track.append(message.copy(time=tick - now, skip_checks=True))
            now = tick
        made.tracks.append(track)
    buffer = io.BytesIO()
    made.save(file=buffer)
    return buffer.getvalue()

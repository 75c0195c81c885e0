"""Performance of a tune: metrical accents, phrase dynamics, a level per verse, gaps before repeated notes."""

import io
from fractions import Fraction

import mido

from pipeline.tunes.abc import Note, Tune

TICKS_PER_WHOLE = 1920
VERSE_VELOCITY = (80, 66, 92)  # mezzoforte, piano, forte, in turn
PHRASE_MEASURES = 4
SWELL = 10  # increase of velocity towards the middle of a phrase
BREATH = 60  # ticks cut from a note before one of equal pitch, at most a third of it


def midi_bytes(tune: Tune) -> bytes:
    """Convert a tune to a MIDI file of one track."""
    file = mido.MidiFile(type=0, ticks_per_beat=TICKS_PER_WHOLE // 4)
    track = mido.MidiTrack([mido.MetaMessage("track_name", name=tune.title.encode("ascii", "replace").decode())])
    file.tracks.append(track)
    quarters_per_minute = tune.beats_per_minute * tune.beat * 4
    track.append(mido.MetaMessage("set_tempo", tempo=round(60_000_000 / quarters_per_minute)))
    track.append(mido.MetaMessage("time_signature", numerator=tune.meter[0], denominator=tune.meter[1]))
    now = 0
    for tick, kind, pitch, velocity in sorted(_events(tune)):
        message = "note_on" if kind else "note_off"
        track.append(mido.Message(message, note=pitch, velocity=velocity, time=tick - now))
        now = tick
    content = io.BytesIO()
    file.save(file=content)
    return content.getvalue()


def _events(tune: Tune) -> list[tuple[int, int, int, int]]:
    """Return (tick, 0 for off or 1 for on, pitch, velocity) of each event."""
    notes = [(verse, note) for verse, of_verse in enumerate(tune.verses) for note in of_verse]
    pitches_in_order = [note.pitch for _, note in notes]
    middle = sorted(pitches_in_order)[len(notes) // 2]
    events = []
    for (verse, note), following in zip(notes, [*pitches_in_order[1:], None], strict=True):
        start, length = int(note.start * TICKS_PER_WHOLE), int(note.length * TICKS_PER_WHOLE)
        if following == note.pitch:
            length -= min(BREATH, length // 3)
        events.append((start, 1, note.pitch, velocity(tune, verse, note, middle)))
        events.append((start + length, 0, note.pitch, 0))
    return events


def velocity(tune: Tune, verse: int, note: Note, middle: int) -> int:
    """Return a note's velocity: sum of the verse's level, metrical accent, phrase dynamics and pitch height."""
    phrase = PHRASE_MEASURES * Fraction(*tune.meter)
    through = (note.start % phrase) / phrase
    swell = int(SWELL * (1 - abs(2 * through - 1)))
    height = max(-8, min(8, (note.pitch - middle) // 2))
    level = VERSE_VELOCITY[verse % len(VERSE_VELOCITY)] + accent(tune.meter, note.place) + swell + height
    return max(1, min(127, level))


def accent(meter: tuple[int, int], place: Fraction) -> int:
    """Return the metrical accent: strongest on the first beat, weaker on other beats, negative between beats."""
    beats, unit = meter
    compound = unit == 8 and beats % 3 == 0
    beat = Fraction(3 if compound else 1, unit)
    if place == 0:
        return 12
    if place % beat:
        return -4
    halfway = 2 * place == Fraction(beats, unit)
    return 6 if halfway else 3

"""Performance of a tune as MIDI: velocities from meter, phrase, verse and pitch, and gaps before repeated notes."""

from collections.abc import Iterator
from fractions import Fraction

import mido

from pipeline.midi.writing import midi_bytes
from pipeline.tunes.abc import Note, Tune

TICKS_PER_WHOLE = 1920
VERSE_VELOCITY = (80, 66, 92)  # of successive verses: mezzoforte, piano, forte, and again
PHRASE_MEASURES = 4
SWELL = 10  # by which velocity is higher in the middle of a phrase
BREATH = 60  # ticks cut from a note before one of equal pitch, at most a third of it


def tune_midi(tune: Tune) -> bytes:
    """Return the performance of a tune as the bytes of a MIDI file of format 0.

    In the track name, characters of the title that are not ASCII become question marks.
    """
    quarters_per_minute = tune.beats_per_minute * tune.beat * 4
    head = [
        mido.MetaMessage("track_name", name=tune.title.encode("ascii", "replace").decode()),
        mido.MetaMessage("set_tempo", tempo=round(60_000_000 / quarters_per_minute)),
        mido.MetaMessage("time_signature", numerator=tune.meter[0], denominator=tune.meter[1]),
    ]
    return midi_bytes(head, _played(tune), TICKS_PER_WHOLE // 4, 0)


def _played(tune: Tune) -> Iterator[tuple[int, int, int, int]]:
    """Iterate in time order over (onset, offset, pitch, velocity) of each note.

    Times are in ticks from the start of the tune. All verses follow each other.
    """
    notes = [(verse, note) for verse, of_verse in enumerate(tune.verses) for note in of_verse]
    pitches_in_order = [note.pitch for _, note in notes]
    middle = sorted(pitches_in_order)[len(notes) // 2]
    for (verse, note), following in zip(notes, [*pitches_in_order[1:], None], strict=True):
        start, length = int(note.start * TICKS_PER_WHOLE), int(note.length * TICKS_PER_WHOLE)
        if following == note.pitch:
            length -= min(BREATH, length // 3)
        yield start, start + length, note.pitch, _velocity(tune, verse, note, middle)


def _velocity(tune: Tune, verse: int, note: Note, middle: int) -> int:
    """Return the velocity of a note: level of the verse, plus metrical accent, phrase dynamics and height of the pitch.

    Height is half the number of semitones above the pitch `middle`, limited to -8..8; the sum is limited to 1..127.

    Args:
        verse: number of the verse, from 0.
    """
    phrase = PHRASE_MEASURES * Fraction(*tune.meter)
    through = (note.start % phrase) / phrase
    swell = int(SWELL * (1 - abs(2 * through - 1)))
    height = max(-8, min(8, (note.pitch - middle) // 2))
    level = VERSE_VELOCITY[verse % len(VERSE_VELOCITY)] + accent(tune.meter, note.place) + swell + height
    return max(1, min(127, level))


def accent(meter: tuple[int, int], place: Fraction) -> int:
    """Return the accent of a note, to be added to its velocity.

    It is 12 on the first beat, 6 in the middle of the measure if a beat is there, 3 on other beats and -4 between
    beats. A beat is three eighths in meters such as 6/8, else one unit of the meter.

    Args:
        meter: beats and unit of the meter, such as (6, 8).
        place: start of the note in whole notes from the start of its measure.
    """
    beats, unit = meter
    compound = unit == 8 and beats % 3 == 0
    beat = Fraction(3 if compound else 1, unit)
    if place == 0:
        return 12
    if place % beat:
        return -4
    halfway = 2 * place == Fraction(beats, unit)
    return 6 if halfway else 3

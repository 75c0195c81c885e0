"""Parser for a subset of ABC notation (abcnotation.com), a plain-text format for melodies.

Supported:

    X:1                     start of a tune, and its number
    T:Ode to Joy            title
    C:Ludwig van Beethoven  composer, or `trad.`;  O: origin (place, year)
    M:4/4                   meter;  L:1/4 unit of length;  Q:1/4=112 beats a minute
    K:D                     key: letter, # or b or nothing, then nothing (major), m or dor; the last line of the head
    %%verses 3              how many times the whole tune is played
    EEFG|GFED|              notes: C is middle C, c an octave above, C, below, c' above; ^ sharp, _ flat, = natural
    E>D D2 G/ z2 (3ABc E-E  > dotted pair, 2 twice and / half the unit, z rest, (3 three in the time of two, - tie
    |: ... |1 ... :|2 ... |]  repeat with a first and a second ending

An accidental holds to the end of the bar. A bar of wrong length is an error; an upbeat and the bar before it together
have the length of a measure.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

from data_specs.errors import UserError

SEMITONES = {"C": 0, "D": 2, "E": 4, "F": 5, "G": 7, "A": 9, "B": 11}
ACCIDENTALS = {"^": 1, "_": -1, "=": 0, "^^": 2, "__": -2}
FIFTHS = {"F": -1, "C": 0, "G": 1, "D": 2, "A": 3, "E": 4, "B": 5}
MODES = {"": 0, "m": -3, "dor": -2}  # fifths on the circle away from major
SHARPS = "FCGDAEB"
TOKEN = re.compile(
    r"(?P<bar>:\|:|::|\|:|:\|[12]?|\|\]|\|\||\|[12]?)"
    r"|(?P<triplet>\(3)"
    r"|(?P<note>(?P<accidental>\^\^|__|[\^_=]?)(?P<letter>[A-Ga-gz])(?P<octave>[,']*)(?P<length>\d*(?:/\d*)?))"
    r"|(?P<broken>[<>])|(?P<tie>-)|(?P<blank>\s+)"
)


@dataclass(frozen=True)
class Note:
    """A note. Times are in whole notes.

    Attributes:
        start: time from the start of the tune; it keeps counting from verse to verse.
        length: duration.
        pitch: MIDI pitch.
        place: time from the start of its measure.
    """

    start: Fraction
    length: Fraction
    pitch: int
    place: Fraction


@dataclass(frozen=True)
class Tune:
    """A tune with repeats written out. `verses` has one tuple of notes for each time that the whole tune is played."""

    title: str
    composer: str
    origin: str
    meter: tuple[int, int]
    beat: Fraction  # length of a beat of the tempo in whole notes
    beats_per_minute: int
    verses: tuple[tuple[Note, ...], ...]


@dataclass
class _Event:
    """A note or rest of a bar. `length` is in whole notes, `pitch` is the MIDI pitch, None for a rest.

    A `tied` note is joined with the event after it if that is a note of its pitch.
    """

    pitch: int | None
    length: Fraction
    tied: bool = False


def read_tunes(text: str) -> Iterator[Tune]:
    """Iterate over the tunes of an ABC file.

    Raises:
        UserError: the notation of a tune is not supported, or a bar has the wrong length. The message names the tune.
    """
    for block in re.split(r"^X:.*$", text, flags=re.MULTILINE)[1:]:
        yield _read_tune(block)


def _read_tune(block: str) -> Tune:
    head: dict[str, str] = {}
    verses, body = 1, []
    for line in block.splitlines():
        if line.startswith("%%verses"):
            verses = int(line.split()[1])
        elif not (line := line.split("%")[0].strip()):
            continue
        elif "K" not in head and re.match(r"[A-Z]:", line):
            head[line[0]] = line[2:].strip()
        else:
            body.append(line)
    title = head.get("T", "a tune without title")
    try:
        meter = tuple(int(part) for part in head["M"].split("/"))
        beat, tempo = head["Q"].split("=")
        bars = _expand_repeats(_bars("\n".join(body), Fraction(head["L"]), _key(head["K"])))
        notes = _timed(bars, verses, Fraction(*meter))
        return Tune(title, head["C"], head["O"], (meter[0], meter[1]), Fraction(beat), int(tempo), notes)
    except KeyError as error:
        raise UserError(f"tune {title}: {error} is missing or unknown") from error
    except ValueError as error:
        raise UserError(f"tune {title}: {error}") from error


def _key(name: str) -> dict[str, int]:
    """Return the letters that a key alters, each with 1 (sharp) or -1 (flat).

    Raises:
        ValueError: the key is not supported.
    """
    match = re.fullmatch(r"([A-G])([#b]?)(m|dor|)", name)
    if not match:
        raise ValueError(f"the key {name} is not supported")
    fifths = FIFTHS[match[1]] + {"#": 7, "b": -7, "": 0}[match[2]] + MODES[match[3]]
    return dict.fromkeys(SHARPS[:fifths], 1) if fifths > 0 else dict.fromkeys(SHARPS[fifths:] if fifths else "", -1)


@dataclass
class _Bar:
    events: list[_Event]
    opens: bool = False  # start of a repeat
    closes: bool = False  # end of a repeat
    ending: int = 0  # 1 or 2: first or second ending


def _bars(body: str, unit: Fraction, key: dict[str, int]) -> list[_Bar]:
    bars = [_Bar([])]
    altered: dict[tuple[str, str], int] = {}
    broken, triplet, place = "", 0, 0
    while place < len(body):
        match = TOKEN.match(body, place)
        if match is None:
            raise ValueError(f"{body[place : place + 8]!r} is not supported")
        place = match.end()
        bar = bars[-1]
        if sign := match["bar"]:
            bar.closes = sign[0] == ":"
            if bar.events:
                bars.append(_Bar([], ending=0 if bar.closes else bar.ending))
            bars[-1].opens |= sign.endswith(":")
            if sign[-1] in "12":
                bars[-1].ending = int(sign[-1])
            altered = {}
        elif match["triplet"]:
            triplet = 3
        elif match["broken"]:
            broken = match["broken"]
            bar.events[-1].length *= Fraction(3, 2) if broken == ">" else Fraction(1, 2)
        elif match["tie"]:
            bar.events[-1].tied = True
        elif match["note"]:
            length = unit * _length(match["length"])
            if broken:
                length *= Fraction(1, 2) if broken == ">" else Fraction(3, 2)
                broken = ""
            if triplet:
                length *= Fraction(2, 3)
                triplet -= 1
            bar.events.append(_Event(_pitch(match, key, altered), length))
    return [bar for bar in bars if bar.events]


def _length(text: str) -> Fraction:
    if not text:
        return Fraction(1)
    above, slash, below = text.partition("/")
    return Fraction(int(above or 1), int(below or 2) if slash else 1)


def _pitch(match: re.Match[str], key: dict[str, int], altered: dict[tuple[str, str], int]) -> int | None:
    """Return the MIDI pitch of a note (middle C is 60), None for a rest.

    Args:
        match: a match of TOKEN.
        key: the result of `_key`.
        altered: accidentals of the bar by (letter, octave), in semitones. That of this note is added to it, and applies
            to later notes of the bar in the same octave.
    """
    letter, octave = match["letter"], match["octave"]
    if letter == "z":
        return None
    if match["accidental"]:
        altered[letter, octave] = ACCIDENTALS[match["accidental"]]
    shift = altered.get((letter, octave), key.get(letter.upper(), 0))
    octaves = octave.count("'") - octave.count(",") + letter.islower()
    return 60 + SEMITONES[letter.upper()] + shift + 12 * octaves


def _expand_repeats(bars: list[_Bar]) -> list[list[_Event]]:
    """Return the events of each bar played, in the order of playing; the second time the first ending is left out."""
    played: list[list[_Event]] = []
    opened = 0
    for i, bar in enumerate(bars):
        if bar.opens:
            opened = i
        played.append(bar.events)
        if bar.closes:
            played += [again.events for again in bars[opened : i + 1] if again.ending != 1]
            opened = i + 1
    return played


def _timed(bars: list[list[_Event]], verses: int, measure: Fraction) -> tuple[tuple[Note, ...], ...]:
    """Return the notes of each verse, with tied notes joined.

    Args:
        bars: events of the bars of one verse, repeats expanded.
        verses: number of verses.
        measure: length of a measure in whole notes.

    Raises:
        ValueError: a bar has the wrong length, or the last bar and the upbeat do not add up to a measure.
    """
    upbeat = sum((event.length for event in bars[0]), Fraction(0)) % measure
    place = start = (-upbeat) % measure
    notes: list[list[Note]] = []
    now, joins = Fraction(0), False
    for verse in range(max(verses, 2)):  # at least two, to compare the last bar with the upbeat
        notes.append([])
        for number, bar in enumerate(bars):
            for event in bar:
                if event.pitch is not None and joins and event.pitch == notes[verse][-1].pitch:
                    last = notes[verse].pop()
                    notes[verse].append(Note(last.start, last.length + event.length, last.pitch, last.place))
                elif event.pitch is not None:
                    notes[verse].append(Note(now, event.length, event.pitch, place))
                joins = event.tied
                now, place = now + event.length, place + event.length
            following = sum((event.length for event in bars[(number + 1) % len(bars)]), Fraction(0))
            if place > measure or place < measure <= following:  # a shorter bar may precede an upbeat
                raise ValueError(f"bar {number + 1} (repeats expanded) has the wrong length")
            place %= measure
        if place != start:
            raise ValueError("the last bar and the upbeat do not add up to a measure")
    return tuple(tuple(verse) for verse in notes[:verses])

"""Reading MIDI files: this project, pretty_midi and mido, each on the same bytes in memory.

The files are composed (`bench.songs`), or those of a folder (`MIDI=folder`). The project's tunes are measured too: at a
twentieth of the size, the constant cost of a call outweighs that of its events.
"""

import io
import warnings
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

from bench.fixtures import Context
from bench.songs import songs
from bench.table import Row, Timings, at_least, interleaved
from data_specs.spec import Limits
from pipeline.midi import smf, symusic_reader
from pipeline.midi.reader import SandboxedReader, read_song
from pipeline.midi.sources import is_midi_name
from pipeline.rejects import Rejected
from pipeline.tunes import midi_files

FILES, ALL_FILES = 60, 100_000  # read in a quick and in a full run, evenly spaced from the folder
REPEATS = 3
OURS, SANDBOXED = "this project", "this project, in its child process"
PRETTY, MIDO = "pretty_midi", "mido"
Seconds = Counter[str]  # by way
COMPOSED_NOTE = "songs composed by bench/songs.py; MIDI=folder measures on those of a folder"
TUNES_NOTE = "the tunes that come with the project: one track, hardly more than a melody"


def rows(context: Context) -> list[Row]:
    """Milliseconds a file: of those that the fast reader takes, and of all, damaged ones included."""
    files = contents(context.midi, ALL_FILES if context.full else FILES)
    note = COMPOSED_NOTE if context.midi is None else ""
    fast = [content for content in files if is_fast(content)]
    tunes = spread([content for _, content in midi_files()], FILES)
    with SandboxedReader(Limits()) as sandboxed:
        ways: dict[str, Callable[[bytes], object]] = {
            OURS: lambda content: read_song(content, Limits()),
            SANDBOXED: sandboxed,
            PRETTY: read_pretty,
            MIDO: read_mido,
        }
        sound = total_seconds(fast, ways, REPEATS)
        rest = total_seconds([content for content in files if content not in set(fast)], ways, REPEATS)
        small = total_seconds(tunes, ways, REPEATS)
    unit = "ms a file"
    reading = f"read {len(fast)} files that the fast reader takes, {kilobytes(fast)} kB each, one thread"
    folder = f"read a whole folder, {len(files)} files, {len(files) - len(fast)} of them damaged or unusual, one thread"
    short = f"read {len(tunes)} files, {kilobytes(tunes)} kB each, one thread"
    of_fast, of_all, of_tunes = (
        per_file(seconds, count)
        for seconds, count in ((sound, len(fast)), (sound + rest, len(files)), (small, len(tunes)))
    )
    return [
        of_fast.row(reading, OURS, PRETTY, at_least(20), note, unit=unit),
        of_fast.row(reading, OURS, MIDO, None, note, unit=unit),
        of_all.row(folder, SANDBOXED, PRETTY, at_least(10), note, unit=unit),
        of_tunes.row(short, OURS, PRETTY, None, TUNES_NOTE, unit=unit),
    ]


def contents(folder: Path | None, most: int) -> list[bytes]:
    """Up to `most` MIDI files, evenly spaced from a folder in the order of names, or as many composed ones as a quick
    run reads."""
    if folder is None:
        return list(songs(FILES))
    found = [path.read_bytes() for path in sorted(folder.rglob("*")) if is_midi_name(path.name) and path.is_file()]
    if not found:
        raise ValueError(f"MIDI={folder} holds no MIDI file; name another folder")
    return spread(found, most)


def spread(files: list[bytes], most: int) -> list[bytes]:
    """Up to `most` of the files, evenly spaced."""
    return files[:: max(1, len(files) // most)][:most]


def kilobytes(files: list[bytes]) -> str:
    """Their mean size in words."""
    return f"{sum(map(len, files)) / 1e3 / len(files):.0f}"


def is_fast(content: bytes) -> bool:
    """Whether the fast reader takes the file, and the others can read it."""
    try:
        taken = symusic_reader.read_notes(content, smf.index_chunks(content), Limits()) is not None
        read_pretty(content, quiet=False)
        read_mido(content, quiet=False)
        return taken
    except Exception:  # whatever pretty_midi and mido raise: the file counts with the rest
        return False


def read_pretty(content: bytes, quiet: bool = True) -> None:
    """As pretty_midi reads it; a failure counts as read when `quiet`."""
    import pretty_midi

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            pretty_midi.PrettyMIDI(io.BytesIO(content))
        except Exception:
            if not quiet:
                raise


def read_mido(content: bytes, quiet: bool = True) -> None:
    """As mido reads it; a failure counts as read when `quiet`."""
    import mido

    try:
        mido.MidiFile(file=io.BytesIO(content))
    except Exception:
        if not quiet:
            raise


def total_seconds(files: list[bytes], ways: dict[str, Callable[[bytes], object]], repeats: int) -> Seconds:
    """Seconds for all files by way, the fastest of `repeats` for each file and way; ways take turns file by file."""

    def work(read: Callable[[bytes], object], content: bytes) -> None:
        with suppress(Rejected):  # a file that is no song takes time too
            read(content)

    totals: Seconds = Counter()
    for content in files:
        timings = interleaved({way: partial(work, read, content) for way, read in ways.items()}, repeats, warm_ups=0)
        totals.update({way: timings.least(way) for way in ways})
    return totals


def per_file(seconds: Seconds, files: int) -> Timings:
    """Mean seconds of a file as timings of one round."""
    timings = Timings()
    for way, total in seconds.items():
        timings.add(way, total / files)
    return timings

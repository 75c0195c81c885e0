"""Time of reading MIDI files by this project, pretty_midi and mido, from the same bytes in memory.

The files are composed (`bench.songs`) or those of a folder (`MIDI=folder`). The tunes of the project are also measured;
they are twenty times smaller, so that the constant cost of a call dominates.
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

FILES, ALL_FILES = 60, 100_000  # largest number of files in a quick and in a full run
REPEATS = 3
OURS, SANDBOXED = "this project", "this project, in its child process"
PRETTY, MIDO = "pretty_midi", "mido"
Seconds = Counter[str]  # by way
COMPOSED_NOTE = "songs composed by bench/songs.py; MIDI=folder uses the files of a folder"
TUNES_NOTE = "the tunes of the project, which have one track with a melody"


def rows(context: Context) -> list[Row]:
    """Return rows of milliseconds per file.

    They are for files that all readers can read, for all files including damaged ones, and for the tunes of the
    project.
    """
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
    """Return up to `most` MIDI files of a folder and its subfolders, chosen by `spread` in the order of paths.

    For None, return FILES composed files, whatever `most` is.

    Raises:
        ValueError: the folder has no MIDI file.
    """
    if folder is None:
        return list(songs(FILES))
    found = [path.read_bytes() for path in sorted(folder.rglob("*")) if is_midi_name(path.name) and path.is_file()]
    if not found:
        raise ValueError(f"MIDI= must be a folder of MIDI files, got {folder} without any")
    return spread(found, most)


def spread(files: list[bytes], most: int) -> list[bytes]:
    """Return every k-th file from the first on, at most `most` of them: k is len(files) // `most`, at least 1."""
    return files[:: max(1, len(files) // most)][:most]


def kilobytes(files: list[bytes]) -> str:
    """Return the mean size of the files in kB (1000 bytes), as an integer in text; there must be a file."""
    return f"{sum(map(len, files)) / 1e3 / len(files):.0f}"


def is_fast(content: bytes) -> bool:
    """Return whether pretty_midi, mido and the fast reader of this project can read the file."""
    try:
        taken = symusic_reader.read_notes(content, smf.index_chunks(content), Limits()) is not None
        read_pretty(content, quiet=False)
        read_mido(content, quiet=False)
        return taken
    except Exception:  # pretty_midi and mido raise many types
        return False


def read_pretty(content: bytes, quiet: bool = True) -> None:
    """Read a file with pretty_midi; its errors are ignored if `quiet`, else raised again."""
    import pretty_midi

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            pretty_midi.PrettyMIDI(io.BytesIO(content))
        except Exception:
            if not quiet:
                raise


def read_mido(content: bytes, quiet: bool = True) -> None:
    """Read a file with mido; its errors are ignored if `quiet`, else raised again."""
    import mido

    try:
        mido.MidiFile(file=io.BytesIO(content))
    except Exception:
        if not quiet:
            raise


def total_seconds(files: list[bytes], ways: dict[str, Callable[[bytes], object]], repeats: int) -> Seconds:
    """Return the wall-clock seconds of each way for all files together.

    For each file, the least of `repeats` measurements counts; the ways are measured in turn. The time until a file is
    rejected counts too.
    """

    def work(read: Callable[[bytes], object], content: bytes) -> None:
        with suppress(Rejected):  # the time of rejected files counts too
            read(content)

    totals: Seconds = Counter()
    for content in files:
        timings = interleaved({way: partial(work, read, content) for way, read in ways.items()}, repeats, warm_ups=0)
        totals.update({way: timings.least(way) for way in ways})
    return totals


def per_file(seconds: Seconds, files: int) -> Timings:
    """Return the mean seconds per file, for `seconds` of `files` files together, as timings of one round."""
    timings = Timings()
    for way, total in seconds.items():
        timings.add(way, total / files)
    return timings

"""The index: candidate windows of MIDI files with their notes, in Parquet files called parts.

A part is named by a digest of its inputs: contents and names of the files, the settings that decide the windows, and
INDEX_VERSION. An existing part is reused, and nothing after the index opens a MIDI file. Rejections are counted per
song, and a song in several parts counts once, so the plan does not depend on how files were batched.

A part has one row per window, sorted by digest, track and tick. Columns: `song` (row of the song table, which is in the
metadata of the file), `track`, `start_tick`, `fingerprint`, `repeat` (see `pipeline.melody.windows`), `fits` (bit c is
set if the window may be shifted by c semitones), `notes` (int32 [n * 4]).
"""

import hashlib
import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from data_specs.arrays import AnyInt, Int32, Int64
from data_specs.errors import UserError
from data_specs.io.files import atomic_write, value_digest
from data_specs.spec import ClipSpec, Spec
from pipeline.melody.transposition import fitting_keys
from pipeline.melody.windows import Window, fingerprint, repeat_key, song_windows
from pipeline.rejects import Rejected, Rejects

if TYPE_CHECKING:
    from pipeline.midi.song import Song
    from pipeline.midi.sources import SourceFile

INDEX_FOLDER = "index"  # below OUT
INDEX_VERSION = 2
METADATA_KEY = b"pvt_index"
Row = tuple[object, ...]  # values of a window in the order of SCHEMA, without the first column
SCHEMA = pa.schema(
    [
        ("song", pa.int32()),
        ("track", pa.int32()),
        ("start_tick", pa.int64()),
        ("fingerprint", pa.uint64()),
        ("repeat", pa.uint64()),
        ("fits", pa.uint16()),
        ("notes", pa.list_(pa.int32())),
    ]
)


@dataclass(slots=True)
class IndexedSong:
    """One distinct file in the song table of a part.

    `windows` counts its windows. `rejects` maps a reason to [count, place of the first one].
    """

    digest: str
    name: str
    copies: int = 1  # number of files with this content in the part
    windows: int = 0
    rules: int = 1  # version of the reading rules that the windows depend on
    rejects: dict[str, list[Any]] = field(default_factory=dict)

    def reject(self, reason: str, where: str) -> None:
        """Add 1 to the rejections under `reason`. `where`, the place in the song, is kept of the first one only."""
        self.rejects.setdefault(reason, [0, where])[0] += 1


Entry = tuple[IndexedSong, int, int]  # with the index of its part and its row there


@dataclass(frozen=True)
class IndexPart:
    """A part on disk. Its songs are sorted by digest."""

    path: Path
    songs: tuple[IndexedSong, ...]

    @property
    def windows(self) -> int:
        """Number of windows of all songs, which is the number of rows."""
        return sum(song.windows for song in self.songs)


def index_part(
    files: Iterable["SourceFile"], spec: Spec, folder: Path, reader: Callable[[bytes], "Song"], unread: Rejects
) -> IndexPart:
    """Return the part of the index with the candidate windows of `files`; write it unless it exists in `folder`.

    Args:
        files: MIDI files in any order. Files of equal content count once, under the first name in sorted order.
        spec: its clip and limits decide the windows.
        folder: the folder of parts, OUT/index.
        reader: returns the song in a file's content or raises Rejected. It is called only if the part is written.
        unread: the files that cannot be read are added to it.
    """
    contents: dict[str, bytes] = {}
    names: dict[str, list[str]] = defaultdict(list)
    for file in files:
        try:
            content = file.read(spec.limits.file_bytes)
        except Rejected as rejected:
            unread.add_rejected(rejected, file.name)
            continue
        digest = hashlib.sha256(content).hexdigest()
        contents[digest] = content
        names[digest].append(file.name)
    # promise: index-keyed-contents-settings
    chosen = spec.model_dump(mode="json", include={"clip", "limits"})
    settings = {"version": INDEX_VERSION, "spec": chosen}

    def rows(song: IndexedSong) -> list[Row]:
        found = _song_windows(song, contents[song.digest], spec.clip, reader)
        return [_row(window, spec.clip) for window in found]

    return cached_part(folder, settings, names, rows)


def cached_part(
    folder: Path,
    settings: dict[str, Any],
    names: dict[str, list[str]],
    rows: Callable[[IndexedSong], list[Row]],
    is_usable: Callable[[IndexPart], bool] = lambda part: True,
) -> IndexPart:
    """Return the part of the index for some files, from `folder` if it is there, else written to it.

    Args:
        folder: the folder of parts, OUT/index.
        settings: everything but the files that the part depends on, as JSON values.
        names: names of the files of each content digest.
        rows: reads the file of an entry of the song table, sets the entry's windows, rules and rejects, and returns the
            rows of its windows. It is not called if the part is reused.
        is_usable: returns whether an existing part may be reused; if not, it is replaced.
    """
    files = sorted([digest, *sorted(copies)] for digest, copies in names.items())
    key = value_digest({**settings, "files": files})
    path = folder / f"part-{key[:32]}.parquet"
    if (existing := read_part(path, key)) is not None and is_usable(existing):
        return existing
    songs = [IndexedSong(digest, min(names[digest]), copies=len(names[digest])) for digest in sorted(names)]
    table = [(number, *row) for number, song in enumerate(songs) for row in rows(song)]
    entries = [asdict(song) for song in songs]
    metadata = {"version": INDEX_VERSION, "key": key, "songs": entries, "check": value_digest(entries)}
    columns = pa.table([[row[column] for row in table] for column in range(len(SCHEMA))], schema=SCHEMA)
    columns = columns.replace_schema_metadata({METADATA_KEY: json.dumps(metadata, sort_keys=True)})
    with atomic_write(path) as file:
        pq.write_table(columns, file, compression="zstd", write_page_checksum=True)
    return IndexPart(path, tuple(songs))


def _song_windows(song: IndexedSong, content: bytes, clip: ClipSpec, reader: Callable[[bytes], "Song"]) -> list[Window]:
    """Return the windows of one file, and set windows, rules and rejects of its entry `song`.

    If the reader rejects the file, the rejection is added to `song` and the list is empty.
    """
    try:
        read = reader(content)
    except Rejected as rejected:
        # promise: counted-under-named-reason
        song.reject(rejected.reason, rejected.detail)
        return []
    found, rejections = song_windows(read, clip)
    for reason, where in rejections:
        song.reject(reason, where)
    if not found:
        song.reject("no melody", f"{len(read.tracks)} tracks")
    song.windows, song.rules = len(found), read.rules
    return found


def _row(window: Window, clip: ClipSpec) -> Row:
    notes = window.notes
    hashes = fingerprint(notes, clip.min_notes), repeat_key(notes)
    return window.track, window.start_tick, *hashes, fitting_keys(notes, clip), notes.reshape(-1)


def read_part(path: Path, key: str | None = None) -> IndexPart | None:
    """Open the part at `path`; return None if it is missing, damaged or of another version.

    With `key`, None is also returned for a part of another key, and all rows are read to compare their checksums: a
    caller that knows the key is able to write the part again. Without, rows are not read.
    """
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            metadata = json.loads(file.schema_arrow.metadata[METADATA_KEY])
            part = IndexPart(path, tuple(IndexedSong(**song) for song in metadata["songs"]))
            if metadata["version"] != INDEX_VERSION or not file.schema_arrow.equals(SCHEMA):
                return None
            if metadata["check"] != value_digest(metadata["songs"]) or file.metadata.num_rows != part.windows:
                return None
            if key is not None:
                if metadata["key"] != key:
                    return None
                file.read()
    except (OSError, pa.ArrowException, KeyError, TypeError, ValueError):
        return None  # any error of a damaged file: rebuild the part
    return part


@dataclass(frozen=True)
class WindowBlock:
    """Some columns of the candidate windows of one part, all arrays [n] in the order of the part's rows.

    Attributes:
        part: index of the part in `Candidates.paths`.
        first: number of the first of these windows, where the windows of all parts are numbered from 0.
        rows: their rows in the part.
        song: their songs, as indices of `Candidates.songs`.
        columns: columns of the part by name.
    """

    part: int
    first: int
    rows: Int64
    song: Int32
    columns: dict[str, NDArray[Any]]

    @property
    def window(self) -> slice:
        """Numbers of these windows, where the windows of all parts are numbered from 0."""
        return slice(self.first, self.first + len(self.rows))


class SourceSong(NamedTuple):
    """A song with candidate windows: content digest, file name and version of the reading rules."""

    digest: str
    name: str
    rules: int


class Candidates:
    """The candidate windows of all parts. Columns are read from disk one part at a time.

    Of a song in several parts, only the windows of the part with most of them are candidates.

    Args:
        parts: paths of the parts, in any order.

    Attributes:
        paths: paths of the parts, sorted.
        songs: songs with candidate windows, sorted by digest.
        windows: number of candidate windows.
        rejects: rejects of all songs, and duplicate files.

    Raises:
        UserError: a part is missing or damaged.
    """

    def __init__(self, parts: Iterable[Path]) -> None:
        self.paths = sorted(parts)
        self._lookup: list[Int32] = []  # per part: row in its song table -> row in `songs`, or -1
        found: dict[str, Entry] = {}
        for number, path in enumerate(self.paths):
            part = read_part(path)
            if part is None:
                raise UserError(f"{path} is missing or damaged; delete it and run the same command again to rebuild it")
            self._lookup.append(np.full(len(part.songs), -1, np.int32))
            for row, song in enumerate(part.songs):
                here = (song, number, row)
                found[song.digest] = _merged(found[song.digest], here) if song.digest in found else here
        self.rejects = Rejects()
        self.songs: list[SourceSong] = []
        self.windows = 0
        for digest in sorted(found):
            song, number, row = found[digest]
            for reason, (count, where) in song.rejects.items():
                self.rejects.add(reason, f"{song.name}: {where}" if where else song.name, count)
            if song.copies > 1:
                self.rejects.add("duplicate file", song.name, song.copies - 1)
            if song.windows:
                self._lookup[number][row] = len(self.songs)
                self.songs.append(SourceSong(digest, song.name, song.rules))
                self.windows += song.windows

    def song_rows(self, part: int, rows: AnyInt) -> Int32:
        """Return the index in `songs` of each of `rows` [n] of the song table of part number `part`, int32 [n].

        It is -1 where the song has no windows or its windows are taken from another part.
        """
        return np.asarray(self._lookup[part][rows])

    def blocks(self, *columns: str) -> Iterator[WindowBlock]:
        """Iterate over the parts, sorted by path, each with the given columns of its candidate windows.

        Raises:
            UserError: a part is missing or damaged.
        """
        first = 0
        for number, path in enumerate(self.paths):
            table = read_columns(path, ["song", *columns])
            song = self.song_rows(number, table["song"].to_numpy())
            rows = np.flatnonzero(song >= 0)
            block = WindowBlock(
                number, first, rows, song[rows], {name: table[name].to_numpy()[rows] for name in columns}
            )
            first += len(rows)
            yield block


def _merged(one: Entry, other: Entry) -> Entry:
    """Return the entry with more windows of one content in two parts, with the smaller name and the copies of both.

    They differ in windows if reading timed out for one of them. The song in the result is a new object.
    """
    best = max(one, other, key=lambda entry: entry[0].windows)
    name, copies = min(one[0].name, other[0].name), one[0].copies + other[0].copies
    return replace(best[0], name=name, copies=copies), best[1], best[2]


def read_columns(path: Path, columns: list[str]) -> pa.Table:
    """Read columns of the index part at `path` and compare their checksums.

    Raises:
        UserError: the part is missing or damaged.
    """
    try:
        return pq.read_table(path, columns=columns, use_threads=False, page_checksum_verification=True)
    except (OSError, pa.ArrowException) as error:
        raise UserError(
            f"{path} is missing or damaged ({error}); delete it and run the same command again to rebuild it"
        ) from error

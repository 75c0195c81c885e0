"""The index: candidate windows of MIDI files with their notes, in parquet files called parts.

A part is named by a digest of its inputs: file contents and names, the spec's `clip` and `limits`, and INDEX_VERSION.
An existing part is reused, and nothing after the index opens a MIDI file. Rejections are counted per song and a song
in several parts counts once, so the plan does not depend on how files were batched.

Columns, one row per window, sorted by digest, track and tick: `song` (row of the song table in the file's metadata),
`track`, `start_tick`, `fingerprint`, `repeat`, `fits` (bit c: may be shifted by c semitones), `notes` (int32 [n * 4]).
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

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
    """A file's entry in the song table; `rejects[reason]` is [count, first example]."""

    digest: str
    name: str
    copies: int = 1  # files of this content in the part
    windows: int = 0
    rules: int = 1  # version of the reading rules that the windows depend on
    rejects: dict[str, list[Any]] = field(default_factory=dict)

    def reject(self, reason: str, where: str) -> None:
        """Count one rejection under `reason`."""
        self.rejects.setdefault(reason, [0, where])[0] += 1


@dataclass(frozen=True)
class IndexPart:
    """A part on disk and its song table, sorted by digest."""

    path: Path
    songs: tuple[IndexedSong, ...]

    @property
    def windows(self) -> int:
        """Number of rows."""
        return sum(song.windows for song in self.songs)


def index_part(
    files: Iterable["SourceFile"], spec: Spec, folder: Path, reader: Callable[[bytes], "Song"], unread: Rejects
) -> IndexPart:
    """Write the candidate windows of `files`, or reuse an existing part.

    Args:
        files: in any order. Files of equal content count once, under the first name in sorted order.
        folder: the folder of parts, OUT/index.
        reader: returns the song in a file's content or raises Rejected.
        unread: files that cannot be read are counted here.
    """
    contents: dict[str, bytes] = {}
    names: dict[str, list[str]] = {}
    for file in files:
        try:
            content = file.read(spec.limits.file_bytes)
        except Rejected as rejected:
            unread.add_rejected(rejected, file.name)
            continue
        digest = hashlib.sha256(content).hexdigest()
        contents[digest] = content
        names.setdefault(digest, []).append(file.name)
    key = _part_key(spec, names)
    path = folder / f"part-{key[:32]}.parquet"
    if (existing := read_part(path, key)) is not None:
        return existing
    songs: list[IndexedSong] = []
    found: list[list[Window]] = []
    for digest in sorted(contents):
        song = IndexedSong(digest, min(names[digest]), copies=len(names[digest]))
        songs.append(song)
        found.append(_song_windows(song, contents[digest], spec.clip, reader))
    write_part(path, key, songs, _table(found, spec.clip))
    return IndexPart(path, tuple(songs))


def _part_key(spec: Spec, names: dict[str, list[str]]) -> str:
    # promise: index-keyed-contents-settings
    chosen = spec.model_dump(mode="json", include={"clip", "limits"})
    files = sorted([digest, *sorted(copies)] for digest, copies in names.items())
    return value_digest({"version": INDEX_VERSION, "spec": chosen, "files": files})


def _song_windows(song: IndexedSong, content: bytes, clip: ClipSpec, reader: Callable[[bytes], "Song"]) -> list[Window]:
    """Return the windows of one file; rejections are counted in `song`."""
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


def _table(found: Sequence[Sequence[Window]], clip: ClipSpec) -> pa.Table:
    """Return the rows of all windows; `found[song]` are those of one song."""
    rows = [(song, window) for song, of_song in enumerate(found) for window in of_song]
    columns = [
        [song for song, _ in rows],
        [window.track for _, window in rows],
        [window.start_tick for _, window in rows],
        [fingerprint(window.notes, clip.min_notes) for _, window in rows],
        [repeat_key(window.notes) for _, window in rows],
        [fitting_keys(window.notes, clip) for _, window in rows],
        [window.notes.reshape(-1) for _, window in rows],
    ]
    return pa.table(columns, schema=SCHEMA)


def write_part(path: Path, key: str, songs: Sequence[IndexedSong], table: pa.Table) -> None:
    """Write an index part: the rows of `table`, and the song table as metadata."""
    entries = [asdict(song) for song in songs]
    metadata = {"version": INDEX_VERSION, "key": key, "songs": entries, "check": value_digest(entries)}
    table = table.replace_schema_metadata({METADATA_KEY: json.dumps(metadata, sort_keys=True)})
    with atomic_write(path) as file:
        pq.write_table(table, file, compression="zstd", write_page_checksum=True)


def read_part(path: Path, key: str | None = None) -> IndexPart | None:
    """Open the part at `path`; None if it is missing, damaged, of another version or (if given) of another key.

    With `key`, all rows are read and their checksums compared: the caller is still able to rebuild the part.
    """
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            metadata = json.loads(file.schema_arrow.metadata[METADATA_KEY])
            songs = tuple(IndexedSong(**song) for song in metadata["songs"])
            if metadata["version"] != INDEX_VERSION or not file.schema_arrow.equals(SCHEMA):
                return None
            if metadata["check"] != value_digest(metadata["songs"]) or file.metadata.num_rows != sum(
                s.windows for s in songs
            ):
                return None
            if key is not None:
                if metadata["key"] != key:
                    return None
                file.read()
    except (OSError, pa.ArrowException, KeyError, TypeError, ValueError):
        return None  # any error of a damaged file: rebuild the part
    return IndexPart(path, songs)


@dataclass(frozen=True)
class WindowBlock:
    """Windows of one part: `first` is the first one's number among all, `song` [n] are rows of `Candidates.songs`."""

    part: int
    first: int
    rows: NDArray[np.int64]
    song: NDArray[np.int32]
    columns: dict[str, NDArray[Any]]

    @property
    def window(self) -> slice:
        """Numbers of the windows among all windows."""
        return slice(self.first, self.first + len(self.rows))


class SourceSong(NamedTuple):
    """A song with candidate windows."""

    digest: str
    name: str
    rules: int


class Candidates:
    """The candidate windows of all parts, read by part and by column; a song in several parts is taken from one."""

    def __init__(self, parts: Iterable[Path]) -> None:
        self.paths = sorted(parts)
        self._lookup: list[NDArray[np.int32]] = []  # per part: row in its song table -> row in `songs`, or -1
        found: dict[str, tuple[IndexedSong, int, int]] = {}
        for number, path in enumerate(self.paths):
            part = read_part(path)
            if part is None:
                raise UserError(f"{path} is not a readable index part; delete it and repeat the command to rebuild it")
            self._lookup.append(np.full(len(part.songs), -1, np.int32))
            for row, song in enumerate(part.songs):
                here = (song, number, row)
                found[song.digest] = _merged(found[song.digest], here) if song.digest in found else here
        self.rejects = Rejects()
        self.songs: list[SourceSong] = []
        self.windows = 0
        for digest in sorted(found):
            song, number, row = found[digest]
            self._count_rejects(song)
            if song.windows:
                self._lookup[number][row] = len(self.songs)
                self.songs.append(SourceSong(digest, song.name, song.rules))
                self.windows += song.windows

    def _count_rejects(self, song: IndexedSong) -> None:
        for reason, (count, where) in song.rejects.items():
            self.rejects.add(reason, f"{song.name}: {where}" if where else song.name, count)
        if song.copies > 1:
            self.rejects.add("duplicate file", song.name, song.copies - 1)

    def song_rows(self, part: int, rows: NDArray[np.integer]) -> NDArray[np.int32]:
        """Map rows of a part's song table to rows of `songs`; -1 without windows, or if another part has the song."""
        return np.asarray(self._lookup[part][rows])

    def blocks(self, *columns: str) -> Iterator[WindowBlock]:
        """Iterate over the windows by part, with the given columns, in a fixed order."""
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


def _merged(one: tuple[IndexedSong, int, int], other: tuple[IndexedSong, int, int]) -> tuple[IndexedSong, int, int]:
    """Merge two entries of equal content; if reading timed out for one of them, the other is used."""
    best = max(one, other, key=lambda entry: entry[0].windows)
    name, copies = min(one[0].name, other[0].name), one[0].copies + other[0].copies
    return replace(best[0], name=name, copies=copies), best[1], best[2]


def read_columns(path: Path, columns: list[str]) -> pa.Table:
    """Read columns of an index part and compare checksums.

    Raises:
        UserError: it is missing or damaged.
    """
    try:
        return pq.read_table(path, columns=columns, use_threads=False, page_checksum_verification=True)
    except (OSError, pa.ArrowException) as error:
        raise UserError(
            f"{path} is missing or damaged ({error}); delete it and repeat the command to rebuild it"
        ) from error

"""The index: every candidate window of a batch of MIDI files, with its notes, in one parquet file.

A part is named by a digest of what it was made of (file contents and names, the spec's `clip` and `limits`, the version
below), so one that stands need not be made again, and nothing after it opens a MIDI file. Which batch a file came in
never matters to the plan: what is counted is kept song by song, and a song that lies in two parts counts once.

Columns, one row a window, sorted by digest, track and tick: `song` (row of the song table in the file's metadata),
`track`, `start_tick`, `fingerprint`, `repeat`, `fits` (bit c: may be shifted by c semitones), `notes` (int32 [n * 4]).
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from data_specs.io.files import atomic_write, value_digest
from data_specs.spec import Clip, Spec
from pipeline.melody.extraction import Fault, Window, melodies, windows
from pipeline.melody.hashing import fingerprint, repeat_key
from pipeline.melody.transposition import fitting_keys
from pipeline.rejects import Rejected

if TYPE_CHECKING:
    from pipeline.midi.song import Song

INDEX_VERSION = 1
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
    """A file's entry in the song table: what it gave, and `rejects[reason] = [count, first example]`."""

    digest: str
    name: str
    copies: int = 1  # files of this content in the part
    windows: int = 0
    rejects: dict[str, list[Any]] = field(default_factory=dict)

    def reject(self, reason: str, where: str) -> None:
        """Count one more under `reason`."""
        self.rejects.setdefault(reason, [0, where])[0] += 1


@dataclass(frozen=True)
class IndexPart:
    """A part that stands on disk, and its song table sorted by digest."""

    path: Path
    songs: tuple[IndexedSong, ...]

    @property
    def windows(self) -> int:
        """Number of rows."""
        return sum(song.windows for song in self.songs)


def index_part(
    files: Iterable[tuple[str, bytes]], spec: Spec, folder: Path, reader: Callable[[bytes], "Song"]
) -> IndexPart:
    """Write the candidate windows of `files`, or find that they stand.

    Args:
        files: (name, content), in any order. Files of equal content count once, under the first name in sorted order.
        folder: where parts lie, OUT/index.
        reader: content -> Song, raises Rejected for a file that gives none.
    """
    contents: dict[str, bytes] = {}
    names: dict[str, list[str]] = {}
    for name, content in files:
        digest = hashlib.sha256(content).hexdigest()
        contents[digest] = content
        names.setdefault(digest, []).append(name)
    key = _part_key(spec, names)
    path = folder / f"part-{key[:32]}.parquet"
    if (standing := read_part(path, key)) is not None:
        return standing
    songs: list[IndexedSong] = []
    found: list[list[Window]] = []
    for digest in sorted(contents):
        song = IndexedSong(digest, min(names[digest]), copies=len(names[digest]))
        songs.append(song)
        found.append(_song_windows(song, contents[digest], spec.clip, reader))
    _write(path, key, songs, _table(found, spec.clip))
    return IndexPart(path, tuple(songs))


def _part_key(spec: Spec, names: dict[str, list[str]]) -> str:
    # promise: index-keyed-contents-settings
    chosen = spec.model_dump(mode="json", include={"clip", "limits"})
    files = sorted([digest, *sorted(copies)] for digest, copies in names.items())
    return value_digest({"version": INDEX_VERSION, "spec": chosen, "files": files})


def _song_windows(song: IndexedSong, content: bytes, clip: Clip, reader: Callable[[bytes], "Song"]) -> list[Window]:
    """The windows of one file; what is left out is counted in `song`."""
    try:
        read = reader(content)
    except Rejected as rejected:
        # promise: counted-under-named-reason
        song.reject(rejected.reason, rejected.detail)
        return []
    found, faults = song_windows(read, clip)
    for reason, where in faults:
        song.reject(reason, where)
    if not found:
        song.reject("no melody", f"{len(read.tracks)} tracks")
    song.windows = len(found)
    return found


def song_windows(song: "Song", clip: Clip) -> tuple[list[Window], list[Fault]]:
    """The candidate windows of a song in the order of track and tick, and all that was left out with its reason."""
    lines, faults = melodies(song, clip)
    found: list[Window] = []
    for melody in lines:
        good, bad = windows(melody, clip)
        found += good
        faults += bad
    return sorted(found, key=lambda window: (window.track, window.start_tick)), faults


def _table(found: Sequence[Sequence[Window]], clip: Clip) -> pa.Table:
    """The rows of all windows, `found[song]` being those of one song."""
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


def _write(path: Path, key: str, songs: Sequence[IndexedSong], table: pa.Table) -> None:
    entries = [asdict(song) for song in songs]
    about = {"version": INDEX_VERSION, "key": key, "songs": entries, "check": value_digest(entries)}
    table = table.replace_schema_metadata({METADATA_KEY: json.dumps(about, sort_keys=True)})
    with atomic_write(path) as file:
        pq.write_table(table, file, compression="zstd", write_page_checksum=True)


def read_part(path: Path, key: str | None = None) -> IndexPart | None:
    """The part at `path`; None if it is missing, damaged, of another version or (when given) of another key.

    With `key`, all rows are read and their checksums compared: the caller can still make the part anew.
    """
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            about = json.loads(file.schema_arrow.metadata[METADATA_KEY])
            songs = tuple(IndexedSong(**song) for song in about["songs"])
            if about["version"] != INDEX_VERSION or not file.schema_arrow.equals(SCHEMA):
                return None
            if about["check"] != value_digest(about["songs"]) or file.metadata.num_rows != sum(
                s.windows for s in songs
            ):
                return None
            if key is not None:
                if about["key"] != key:
                    return None
                file.read()
    except (OSError, pa.ArrowException, KeyError, TypeError, ValueError):
        return None  # whatever a damaged file raises, the answer is to make the part again
    return IndexPart(path, songs)

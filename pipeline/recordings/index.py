"""Index parts of recordings, and the store of their events.

Events are kept as they will be rendered, float32 at 24 kHz, in `index/recordings-<settings>/<digest>.f32`, so nothing
after the index opens a recording. The column `notes` of a part holds [offset, length] of an event in the store of its
file, and its spectral shape.
"""

from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pyarrow as pa

from data_specs.errors import UserError
from data_specs.io.files import file_sha256, value_digest, write_bytes
from data_specs.spec import Spec
from pipeline.midi.sources import SourceFile
from pipeline.plan.index import SCHEMA, IndexedSong, IndexPart, read_part, write_part
from pipeline.recordings.reader import ReadRecording, RecordedEvent
from pipeline.rejects import Rejected, Rejects

STORE_VERSION = 1
FITS = 1  # bit 0: in its own key


def store_folder(spec: Spec, index: Path) -> Path:
    """Return the folder of the events cut with the settings of `spec`."""
    chosen = spec.model_dump(mode="json", include={"clip", "recordings"})
    return index / f"recordings-{value_digest({'version': STORE_VERSION, 'spec': chosen})[:16]}"


def index_recordings(
    files: Iterable[SourceFile], spec: Spec, folder: Path, read: Callable[[str], ReadRecording], unread: Rejects
) -> IndexPart | None:
    """Write the events of `files` and their index part, or reuse an existing part; None without a readable file.

    Args:
        files: in any order. Files of equal content count once, under the first name in sorted order.
        spec: of recordings.
        folder: the folder of parts, OUT/index.
        read: returns the events in the file at a path or raises Rejected.
        unread: counts the files that cannot be opened.
    """
    paths: dict[str, str] = {}
    names: dict[str, list[str]] = {}
    for file in files:
        try:
            digest = file_sha256(Path(file.path))
        except OSError as error:
            unread.add_rejected(Rejected("unreadable file", error.strerror or str(error)), file.name)
            continue
        paths[digest] = file.path
        names.setdefault(digest, []).append(file.name)
    if not paths:
        return None
    store = store_folder(spec, folder)
    listed = sorted([digest, *sorted(copies)] for digest, copies in names.items())
    key = value_digest({"store": store.name, "limits": spec.limits.model_dump(mode="json"), "files": listed})
    path = folder / f"part-{key[:32]}.parquet"
    existing = read_part(path, key)
    if existing is not None:
        stored = [store / f"{song.digest}.f32" for song in existing.songs if song.windows]
        if all(file.is_file() for file in stored):
            return existing
    songs: list[IndexedSong] = []
    rows: list[tuple[object, ...]] = []
    for number, digest in enumerate(sorted(paths)):
        song = IndexedSong(digest, min(names[digest]), copies=len(names[digest]))
        songs.append(song)
        rows += _rows(number, _events(song, paths[digest], read, store))
    columns = [[row[column] for row in rows] for column in range(len(SCHEMA))]
    write_part(path, key, songs, pa.table(columns, schema=SCHEMA))
    return IndexPart(path, tuple(songs))


def _events(
    song: IndexedSong, path: str, read: Callable[[str], ReadRecording], store: Path
) -> tuple[RecordedEvent, ...]:
    """Return the events of one file after writing their audio; rejections are counted in `song`."""
    try:
        found = read(path)
        if found.digest != song.digest:
            raise Rejected("file changed while it was read")
    except Rejected as rejected:
        # promise: recording-reject-counted
        song.reject(rejected.reason, rejected.detail)
        return ()
    for reason, place in found.rejections:
        song.reject(reason, place)
    if found.events:
        write_bytes(store / f"{song.digest}.f32", np.concatenate([event.audio for event in found.events]).tobytes())
    song.windows = len(found.events)
    return found.events


def _rows(song: int, found: tuple[RecordedEvent, ...]) -> list[tuple[object, ...]]:
    """Return the rows of a part, in the order of its schema."""
    ends = np.cumsum([len(event.audio) for event in found], dtype=int).tolist()
    return [
        (song, 0, event.start, 0, event.repeat, FITS, [end - len(event.audio), len(event.audio), *event.shape])
        for event, end in zip(found, ends, strict=True)
    ]


class RecordingStore:
    """Audio of the events in an index folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def read(self, digest: str, offset: int, length: int, samples: int) -> np.ndarray:
        """Return an event padded with silence to a clip, float32 [samples].

        Raises:
            UserError: the store of its file is missing or cut off.
        """
        path = self.folder / f"{digest}.f32"
        try:
            with open(path, "rb") as file:
                file.seek(4 * offset)
                content = file.read(4 * length)
        except OSError:
            content = b""
        # promise: recording-store-damaged
        if len(content) != 4 * length:
            raise UserError(f"{path} is missing or damaged; delete {self.folder.parent} and repeat the command")
        clip = np.zeros(samples, np.float32)
        clip[:length] = np.frombuffer(content, np.float32)
        return clip

    def close(self) -> None:
        """Release nothing: files are opened for one clip."""

"""Index parts of recordings, and the store of their events.

The store has the audio of events as clips will have it, float32 at 24 kHz, in `index/recordings-<settings>/`, one file
<digest>.f32 per recording. Nothing after the index opens a recording. The column `notes` of a part holds the offset and
length of an event in samples of that file, followed by its spectral shape.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np

from data_specs.arrays import Float32
from data_specs.errors import UserError
from data_specs.io.files import file_sha256, value_digest, write_bytes
from data_specs.spec import Spec
from pipeline.midi.sources import SourceFile
from pipeline.plan.index import IndexedSong, IndexPart, Row, cached_part
from pipeline.recordings.reader import ReadRecording
from pipeline.rejects import Rejected, Rejects

STORE_VERSION = 1
FITS = 1  # bit 0 is set: the event fits in its own key alone


def store_folder(spec: Spec, index: Path) -> Path:
    """Return the path of the folder for the events that are cut with the settings of `spec`. No folder is made.

    It is below the folder `index`. Its name has a digest of the settings `clip` and `recordings`.
    """
    chosen = spec.model_dump(mode="json", include={"clip", "recordings"})
    return index / f"recordings-{value_digest({'version': STORE_VERSION, 'spec': chosen})[:16]}"


def index_recordings(
    files: Iterable[SourceFile], spec: Spec, folder: Path, read: Callable[[str], ReadRecording], unread: Rejects
) -> IndexPart | None:
    """Write the audio of the events in `files` to `store_folder` and their part of the index to `folder`.

    If the part and all audio that it refers to exist already, nothing is written.

    Args:
        files: audio files in any order. Files of equal content count once, under the first name in sorted order.
        spec: a spec of recordings.
        folder: the folder of parts, OUT/index.
        read: returns the events in the file at a path or raises Rejected.
        unread: the files that cannot be opened are added to it. Other rejections are stored in the part.

    Returns:
        The part; None if no file could be opened.

    Raises:
        UserError: the disk is full or `folder` is not writable.
    """
    paths: dict[str, str] = {}
    names: dict[str, list[str]] = defaultdict(list)
    for file in files:
        try:
            digest = file_sha256(Path(file.path))
        except OSError as error:
            unread.add_rejected(Rejected("unreadable file", error.strerror or str(error)), file.name)
            continue
        paths[digest] = file.path
        names[digest].append(file.name)
    if not paths:
        return None
    store = store_folder(spec, folder)
    settings = {"store": store.name, "limits": spec.limits.model_dump(mode="json")}

    def is_stored(part: IndexPart) -> bool:
        return all((store / f"{song.digest}.f32").is_file() for song in part.songs if song.windows)

    return cached_part(folder, settings, names, lambda song: _store(song, paths[song.digest], read, store), is_stored)


def _store(song: IndexedSong, path: str, read: Callable[[str], ReadRecording], store: Path) -> list[Row]:
    """Write the audio of one file's events to the folder `store` and return their rows.

    Set the number of windows of `song` to that of the events, and add the rejections to `song`.
    """
    try:
        found = read(path)
        if found.digest != song.digest:
            raise Rejected("file changed while it was read")
    except Rejected as rejected:
        # promise: recording-reject-counted
        song.reject(rejected.reason, rejected.detail)
        return []
    for reason, place in found.rejections:
        song.reject(reason, place)
    if found.events:
        write_bytes(store / f"{song.digest}.f32", np.concatenate([event.audio for event in found.events]).tobytes())
    song.windows = len(found.events)
    rows: list[Row] = []
    offset = 0
    for event in found.events:
        length = len(event.audio)
        rows.append((0, event.start, 0, event.repeat, FITS, [offset, length, *event.shape]))
        offset += length
    return rows


class RecordingStore:
    """Reader of the audio of events; `folder` is a path returned by `store_folder`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def read(self, digest: str, offset: int, length: int, samples: int) -> Float32:
        """Return the audio of one event, padded at its end with silence to the length of a clip, float32 [samples].

        Args:
            digest: content digest (SHA-256, hex) of the recording.
            offset, length: place of the event in the stored audio of the recording, in samples; `length` <= `samples`.
            samples: length of a clip.

        Raises:
            UserError: the stored audio is missing, cannot be read or is too short.
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
            raise UserError(f"{path} is missing or damaged; delete {self.folder.parent} and run the same command again")
        clip = np.zeros(samples, np.float32)
        clip[:length] = np.frombuffer(content, np.float32)
        return clip

    def close(self) -> None:
        """Do nothing: each call of `read` opens and closes its file. Renderers have this method too."""

"""Reading of a recording in a child process: its events, each with audio, spectral shape and hash."""

import hashlib
import json
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np

from data_specs.arrays import Float32
from data_specs.io.audio import AudioError, read_audio
from data_specs.io.files import file_sha256
from data_specs.spec import ClipSpec, RecordingsSpec, Spec
from pipeline.recordings.activity import SILENT, cut, event_fault, events
from pipeline.recordings.similarity import spectral_shape
from pipeline.rejects import Rejected
from pipeline.sandbox import Sandbox

TARGET = "pipeline.recordings.reader:read_packed"


@dataclass(frozen=True)
class RecordedEvent:
    """A stretch of a recording that becomes a clip."""

    start: int  # its first sample in the recording at 24 kHz
    shape: list[int]  # coarse spectrogram, see `spectral_shape`
    repeat: int  # hash of its samples
    audio: Float32


@dataclass(frozen=True)
class ReadRecording:
    """Result of reading a recording.

    Attributes:
        digest: SHA-256 of the file, hex.
        events: the events that become clips, in order of time.
        rejections: (reason, place) of each event that does not, with a place such as "at 1.25 s".
    """

    digest: str
    events: tuple[RecordedEvent, ...]
    rejections: tuple[tuple[str, str], ...]


def read_recording(path: Path, clip: ClipSpec, settings: RecordingsSpec) -> ReadRecording:
    """Read an audio file, cut it into events and return them with the file's digest and the rejected events.

    Raises:
        Rejected: the file cannot be read as audio, or is silent, so that there is no event, not even a rejected one.
        OSError: the file cannot be opened.
    """
    digest = file_sha256(path)
    try:
        audio = read_audio(path)
    except AudioError as error:
        raise Rejected(error.reason, error.detail) from None
    found, rejections = [], []
    for event in events(audio, clip, settings):
        if (reason := event_fault(audio, event, settings)) is not None:
            rejections.append((reason, f"at {event.start / clip.sample_rate:.2f} s"))
            continue
        piece = cut(audio, event.start, event.stop)
        repeat = int.from_bytes(blake2b(piece.tobytes(), digest_size=8).digest(), "little")
        found.append(RecordedEvent(event.start, spectral_shape(piece).tolist(), repeat, piece))
    if not found and not rejections:
        raise Rejected(SILENT)
    return ReadRecording(digest, tuple(found), tuple(rejections))


def read_packed(content: bytes, clip: dict[str, Any], settings: dict[str, Any]) -> bytes:
    """Return the result of `read_recording` as bytes. Runs in the child process.

    The bytes are the length of the header (8 bytes, little-endian), the header in JSON, and the float32 audio of all
    events.

    Args:
        content: path of the audio file in UTF-8, with surrogateescape.
        clip, settings: fields of ClipSpec and RecordingsSpec.

    Raises:
        Rejected: as by `read_recording`.
    """
    path = Path(content.decode("utf-8", "surrogateescape"))
    read = read_recording(path, ClipSpec(**clip), RecordingsSpec(**settings))
    rows = [[event.start, event.shape, event.repeat, len(event.audio)] for event in read.events]
    header = json.dumps([read.digest, rows, read.rejections]).encode()
    audio = b"".join(event.audio.tobytes() for event in read.events)
    return len(header).to_bytes(8, "little") + header + audio


class SandboxedRecordingReader(Sandbox):
    """`read_recording` in a child process with the limits of `spec` on time and memory.

    The child starts at the first call. It is replaced if a file makes it hang, exhaust memory or crash.
    """

    def __init__(self, spec: Spec) -> None:
        parameters = {"clip": spec.clip.model_dump(), "settings": spec.recordings.model_dump()}
        super().__init__(TARGET, parameters, spec.limits.seconds, spec.limits.memory_mb)
        self.limits = spec.limits

    def __call__(self, path: str) -> ReadRecording:
        """Return the events and rejections of the recording at `path`.

        Raises:
            Rejected: as by `read_recording`; the file is missing or has more than `file_bytes` bytes; `timeout`,
                `memory` or `crash` if the child failed twice; or `crash` if it raised another error or its answer
                cannot be read.
            UserError: the child process cannot be started.
        """
        try:
            size = Path(path).stat().st_size
        except OSError as error:
            raise Rejected("unreadable file", error.strerror or str(error)) from error
        if size > self.limits.file_bytes:
            raise Rejected("file too large", f"{size} bytes, at most {self.limits.file_bytes}")
        packed = self.call(path.encode("utf-8", "surrogateescape"))
        try:
            return _unpack(packed)
        except (ValueError, TypeError) as error:
            raise Rejected("crash", f"the child returned {error}") from error


def _unpack(packed: bytes) -> ReadRecording:
    size = int.from_bytes(packed[:8], "little")
    digest, rows, rejections = json.loads(packed[8 : 8 + size])
    audio = np.frombuffer(packed, np.float32, offset=8 + size)
    if len(digest) != hashlib.sha256().digest_size * 2 or sum(row[3] for row in rows) != len(audio):
        raise ValueError("audio of another length than announced")
    ends = np.cumsum([row[3] for row in rows], dtype=int).tolist()
    found = [
        RecordedEvent(start, shape, repeat, audio[end - length : end])
        for (start, shape, repeat, length), end in zip(rows, ends, strict=True)
    ]
    return ReadRecording(digest, tuple(found), tuple((str(reason), str(place)) for reason, place in rejections))

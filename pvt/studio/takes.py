"""Takes: generated audio with its request; a bounded store, and WAV files."""

import io
import secrets
import struct
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_specs.arrays import Float32

MAX_BYTES = 256_000_000  # of stored audio: 90 takes of 30 s


@dataclass(frozen=True)
class Take:
    """Generated audio with its recipe and analysis.

    Attributes:
        audio: float32 [N], mono.
        sample_rate: in Hz.
        recipe: JSON value that reproduces the audio, see `Recipe`.
        analysis: JSON value of the curves measured from the audio and their errors, see `Analyzer`.
        spectrogram: uint8 [F, T], levels in F mel bands at T frames.
        id: 16 random hexadecimal digits.
    """

    audio: Float32
    sample_rate: int
    recipe: Mapping[str, Any]
    analysis: Mapping[str, Any]
    spectrogram: NDArray[np.uint8]
    id: str = field(default_factory=lambda: secrets.token_hex(8))

    @property
    def bytes(self) -> int:
        """Size of audio and spectrogram in bytes."""
        return self.audio.nbytes + self.spectrogram.nbytes


class TakeStore:
    """The newest takes, whose sizes are at most `max_bytes` in all. The newest one is kept whatever its size."""

    def __init__(self, max_bytes: int = MAX_BYTES) -> None:
        self._takes: OrderedDict[str, Take] = OrderedDict()
        self._max_bytes = max_bytes

    def add(self, take: Take) -> None:
        """Store a take, and drop the oldest ones while the sizes exceed `max_bytes`."""
        self._takes[take.id] = take
        while sum(held.bytes for held in self._takes.values()) > self._max_bytes and len(self._takes) > 1:
            self._takes.popitem(last=False)

    def get(self, take_id: str) -> Take | None:
        """Return the take with an id, None if the id is unknown or its take was dropped."""
        return self._takes.get(take_id)


def wav_bytes(audio: Float32, rate: int, bits: int, to_rate: int) -> bytes:
    """Encode mono audio as the content of a WAV file (PCM); values beyond -1..1 are clipped.

    Args:
        audio: float [N].
        rate: sample rate of `audio` in Hz.
        bits: 16 or 24 bits per sample.
        to_rate: sample rate of the file in Hz, to which audio of another rate is resampled.
    """
    if to_rate != rate:
        import soxr

        audio = soxr.resample(audio, rate, to_rate, quality="VHQ")
    clipped = np.clip(audio, -1, 1).astype(np.float64)
    if bits == 16:
        data = np.round(clipped * 32767).astype("<i2").tobytes()
    else:
        wide = np.round(clipped * 8_388_607).astype("<i4")
        data = wide.view(np.uint8).reshape(-1, 4)[:, :3].tobytes()
    out = io.BytesIO()
    width = bits // 8
    out.write(b"RIFF" + struct.pack("<I", 36 + len(data) + len(data) % 2) + b"WAVE")
    out.write(b"fmt " + struct.pack("<IHHIIHH", 16, 1, 1, to_rate, to_rate * width, width, bits))
    out.write(b"data" + struct.pack("<I", len(data)) + data + b"\0" * (len(data) % 2))
    return out.getvalue()

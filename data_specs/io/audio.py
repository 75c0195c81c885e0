"""Reading of audio files of any rate and number of channels, as mono at the project's rate. N samples at 24 kHz."""

import re
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from data_specs.arrays import Float32
from data_specs.errors import UserError
from data_specs.rates import SAMPLE_RATE

AUDIO_SUFFIXES = (".wav", ".flac", ".ogg", ".mp3", ".aif", ".aiff")
MOST_SECONDS = 3600
RATES_HZ = (4_000, 768_000)
MOST_CHANNELS = 64
_BLOCK = 1 << 18  # frames decoded at once
_SHORT_CHUNK = re.compile(r"(\d+) \(should be (\d+)\)")  # in libsndfile's log: size in the header, size in the file


class AudioError(UserError):
    """A file that cannot be used as audio.

    `reason` is a short fixed name to count by; `detail` is about this file and may be empty.
    """

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason} ({detail})" if detail else reason)
        self.reason = reason
        self.detail = detail


def read_audio(file: Path | BinaryIO, most_seconds: float = MOST_SECONDS) -> Float32:
    """Return the mean of all channels of an audio file, resampled to 24 kHz by soxr (HQ), float32 [N].

    Full scale is 1; values of float files may exceed it. The file is decoded in blocks, so that memory is bounded by
    `most_seconds` whatever its header says.

    Raises:
        AudioError: unreadable, not audio, shorter than its header says, empty, longer than `most_seconds`, with values
            that are not finite, of a rate outside 4 to 768 kHz, or of more than 64 channels.
    """
    import soundfile

    try:
        if isinstance(file, Path):
            file.open("rb").close()  # libsndfile reports a file that cannot be opened like one that is not audio
        with soundfile.SoundFile(file) as sound:
            _check_header(sound)
            return _decode(sound, most_seconds)
    except soundfile.LibsndfileError as error:
        raise AudioError("not audio", str(getattr(error, "error_string", error)).strip(" .")) from None
    except OSError as error:
        raise AudioError("unreadable file", error.strerror or str(error)) from None


def _check_header(sound: Any) -> None:
    rate, channels, log = sound.samplerate, sound.channels, sound.extra_info
    if not RATES_HZ[0] <= rate <= RATES_HZ[1]:
        raise AudioError("sample rate out of range", f"{rate} Hz, must be in {RATES_HZ[0]}..{RATES_HZ[1]}")
    if channels > MOST_CHANNELS:
        raise AudioError("too many channels", f"{channels}, at most {MOST_CHANNELS}")
    for stated, found in _SHORT_CHUNK.findall(log):
        # Programs that write to a pipe leave 0 or the largest number as the size.
        if int(found) < int(stated) < 0x7FFFFFFF:
            raise AudioError("truncated file", f"{found} bytes of {stated}")


def _decode(sound: Any, most_seconds: float) -> Float32:
    import soxr

    rate: int = sound.samplerate
    resampler = None if rate == SAMPLE_RATE else soxr.ResampleStream(rate, SAMPLE_RATE, 1, dtype="float32")
    parts: list[Float32] = []
    frames = 0
    while len(block := sound.read(_BLOCK, dtype="float32", always_2d=True)):
        frames += len(block)
        if frames > most_seconds * rate:
            raise AudioError("recording too long", f"more than {most_seconds:g} s")
        mono = np.ascontiguousarray(block.mean(axis=1), np.float32)
        if not np.isfinite(mono).all():
            raise AudioError("value not finite")
        parts.append(mono if resampler is None else resampler.resample_chunk(mono))
    if not frames:
        raise AudioError("empty recording")
    if frames < sound.frames < 0x7FFFFFFF:
        raise AudioError("truncated file", f"{frames} of {sound.frames} frames")
    if resampler is not None:
        parts.append(resampler.resample_chunk(np.zeros(0, np.float32), last=True))
    return np.concatenate(parts)

"""Generation of a span of a recording (KEEP=, SPAN=): inpainting of latents, then crossfades with the recording.

N audio samples, T frames.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from data_specs.arrays import Float32
from data_specs.errors import UserError
from data_specs.io.files import atomic_write
from training.diffusion.inpainting import Known

if TYPE_CHECKING:
    from training.model import TrainedModel

CROSSFADE_SECONDS = 0.05
SUBTYPES = {"PCM_16": 16, "PCM_24": 24}  # bits of the formats that are supported
_GAIN = re.compile(r"gain ([+-][0-9.]+) dB")


@dataclass(frozen=True)
class KeptAudio:
    """A WAV file of which a span is generated again.

    Attributes:
        stored: samples of the file as int32 [N], the 16 or 24 bits in the highest ones.
        gain: factor by which the output of the model was multiplied in the file; 1 if the file states none.
        subtype: sample format of the file, a key of SUBTYPES.
        comment: comment of the file; may be empty.
        start, stop: first sample of the span, and the first after it.
    """

    stored: NDArray[np.int32]
    gain: float
    subtype: str
    comment: str
    start: int
    stop: int

    @property
    def audio(self) -> Float32:
        """Audio at the level of the model, that is, divided by `gain`: float32 [N]."""
        return (self.stored / (2.0**31 * self.gain)).astype(np.float32)


def read_take(path: Path, span: str | None, rate: int) -> KeptAudio:
    """Read the WAV file `path` (KEEP=), and parse the text `span` (SPAN=), `start:stop` in seconds.

    The gain is read from the comment of the file.

    Raises:
        UserError: not a mono WAV file of 16 or 24 bits at `rate` Hz, or a span that is None, not `start:stop`, empty or
            not within the file.
    """
    import soundfile

    try:
        with soundfile.SoundFile(path) as file:
            if file.subtype not in SUBTYPES or file.channels != 1 or file.samplerate != rate:
                raise UserError(
                    f"KEEP= must be a mono WAV file of {rate} Hz and 16 or 24 bits, got {file.channels} channels, "
                    f"{file.samplerate} Hz, {file.subtype}; convert {path}"
                )
            stored, subtype, comment = file.read(dtype="int32"), file.subtype, file.comment or ""
    except (OSError, soundfile.LibsndfileError) as error:
        raise UserError(f"KEEP= must be a WAV file, got {path} ({error!s:.80})") from None
    found = _GAIN.search(comment)
    gain = 10 ** (float(found[1]) / 20) if found else 1.0
    start, stop = _span(span, len(stored) / rate)
    return KeptAudio(stored, gain, subtype, comment, round(start * rate), round(stop * rate))


def _span(text: str | None, seconds: float) -> tuple[float, float]:
    try:
        start, stop = map(float, (text or "").split(":"))
    except ValueError:
        raise UserError(f"SPAN= must be start:stop in seconds, got {text!r:.40}; write for example SPAN=3:5") from None
    if not 0 <= start < stop <= seconds + 1e-6:
        raise UserError(f"SPAN= must be within the {seconds:g} s of KEEP=, got {text}; write for example SPAN=0:1")
    return start, stop


def known_part(model: "TrainedModel", audio: Float32, start: int, stop: int, samples: int) -> Known:
    """Return the given part of a clip for inpainting: `audio` as data of the model, without the frames of a span.

    Args:
        model: model whose representation encodes the audio.
        audio: audio at the level of the model, float32 [N]; it is cropped or padded with silence to `samples`.
        start, stop: first audio sample of the span, and the first after it. A frame is in the span if its first
            sample is.
        samples: length of the clip in audio samples.

    Raises:
        UserError: the model is one of codes, which cannot be inpainted.
    """
    if model.scaling is None:
        raise UserError("RUN= must be a model of continuous data for KEEP=, got one of codes; choose another")
    padded = torch.zeros(1, 1, samples)
    kept = torch.from_numpy(audio[:samples])
    padded[0, 0, : len(kept)] = kept
    with torch.no_grad():
        stored = model.representation.encode(padded.to(model.device))
    frames = torch.arange(stored.shape[-1], device=stored.device) * model.data.hop
    return Known(model.to_model(stored), (frames < start) | (frames >= stop))


def splice(original: NDArray[Any], generated: NDArray[Any], start: int, stop: int, fade: int) -> Float32:
    """Return `original` [N] with the samples start to stop - 1 from `generated` [N], float32 [N].

    There are linear crossfades of `fade` samples before `start` and after `stop`, none at an end of the file that the
    span reaches. Other samples are those of `original`.
    """
    position = np.arange(len(original))
    rise = np.clip((position - (start - fade)) / fade, 0, 1) if start > 0 else np.ones(len(original))
    fall = np.clip(((stop + fade) - 1 - position) / fade, 0, 1) if stop < len(original) else np.ones(len(original))
    share = np.minimum(rise, fall).astype(np.float32)
    mixed = original * (1 - share) + generated * share
    return np.where(share == 0, original, mixed).astype(np.float32)


def write_take(path: Path, take: KeptAudio, generated: Float32, rate: int) -> Float32:
    """Write the recording of `take` with its span replaced to the WAV file `path`, in its sample format.

    The file has the comment of the recording. Samples outside the span and its crossfades, of CROSSFADE_SECONDS each,
    are bit-identical to the recording. Values beyond full scale are clipped.

    Args:
        path: file to write.
        take: recording with its span.
        generated: audio at the level of the model, float32, as long as the recording or longer.
        rate: sample rate in Hz.

    Returns:
        The audio of the file at the level of the model, before rounding and clipping, float32 [N].
    """
    import soundfile

    fade = round(CROSSFADE_SECONDS * rate)
    mixed = splice(take.audio, generated[: len(take.stored)], take.start, take.stop, fade)
    step = 2.0 ** (32 - SUBTYPES[take.subtype])
    levels = np.clip(
        np.round(mixed.astype(np.float64) * take.gain * 2.0**31 / step), -(2.0**31) / step, 2.0**31 / step - 1
    )
    position = np.arange(len(mixed))
    changed = (position > take.start - fade) & (position < take.stop + fade)
    stored = np.where(changed, levels * step, take.stored).astype(np.int32)
    with atomic_write(path) as file:
        with soundfile.SoundFile(file, "w", rate, 1, take.subtype, format="WAV") as wav:
            if take.comment:
                wav.comment = take.comment
            wav.write(stored)
    return mixed

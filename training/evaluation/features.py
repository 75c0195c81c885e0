"""Frame features for adherence: pitch, level, silence, onsets and descriptors of monophonic audio, every 10 ms.

B clips, N samples at 24 kHz, F frames; frame i is centred on sample i * HOP.
"""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as nnf
from numpy.typing import NDArray
from torch import Tensor

from data_specs.analysis.descriptors import AudioAnalysis
from data_specs.analysis.pitch import HOP, track
from data_specs.arrays import Bool, Float32, Float64
from data_specs.rates import SAMPLE_RATE
from training.evaluation.logmel import LogMel

FRAME_S = HOP / SAMPLE_RATE
LEVEL_WINDOW = 480  # samples: 20 ms, more than two periods of the lowest pitch
LEVEL_FLOOR = 1e-6  # -120 dBFS
SILENT_DB = -70.0  # dBFS; quiet notes are louder, also late in their decay
RELEASE_DB_PER_S = 100.0  # held notes decay more slowly, released notes faster
SLOPE_FRAMES = 4  # frames over which the decay is measured
FLUX = LogMel(SAMPLE_RATE, 2048, HOP, 2048, 120, 100.0, 8000.0, 0.1)
FLUX_LAG = 3  # frames
FLUX_PEAK = 0.07  # above the local mean, in nepers a band
PEAK_FRAMES, MEAN_FRAMES = 7, 31  # a peak is the maximum over 70 ms, and above the mean over 310 ms
FLUX_DELAY = 1  # frames: the flux peaks one frame before the onset
CHUNK = 8  # clips at a time, to bound memory


@dataclass(frozen=True)
class FrameFeatures:
    """Features of each clip and frame: arrays [B, F], float32 or (`voiced`, `silent`, `onset`) bool."""

    midi: Float32  # [B, F], fractional MIDI note number; undefined where unvoiced
    voiced: Bool
    level_db: Float32  # dBFS over 20 ms
    silent: Bool  # below `SILENT_DB`, or in a release
    onset: Bool
    centroid: Float32  # semitones above 20 Hz; NaN in silence
    loudness: Float32  # A-weighted, in dB
    noisiness: Float32  # share of the energy off the harmonics; NaN in silence and where not asked for

    @property
    def frames(self) -> int:
        """Number of frames F."""
        return self.midi.shape[1]

    def times(self) -> Float64:
        """Return the centre of each frame in seconds from the start of the clip, float64 [F]."""
        return np.arange(self.frames, dtype=np.float64) * FRAME_S


def extract_features(audio: Tensor, noisiness: bool = False) -> FrameFeatures:
    """Return the features of audio, float32 [B, 1, N] at 24 kHz on any device, in F = N // 240 frames.

    Noisiness is slow: it is measured only if `noisiness` is true, and is NaN in every frame otherwise.
    """
    parts = [_extract(part.float().cpu(), noisiness) for part in audio.split(CHUNK)]
    return FrameFeatures(*(np.concatenate(arrays) for arrays in zip(*parts, strict=True)))


@torch.inference_mode()
def _extract(audio: Tensor, noisiness: bool) -> tuple[NDArray[np.generic], ...]:
    pitch = track(audio)
    level = _levels(audio)
    analysis = AudioAnalysis(audio[:, 0], HOP)
    tensors = (
        pitch.midi,
        pitch.voiced,
        level,
        _silent(level),
        _onsets(audio),
        analysis.centroid,
        analysis.loudness,
        analysis.noisiness if noisiness else torch.full_like(level, torch.nan),
    )
    return tuple(tensor.numpy() for tensor in tensors)


def _levels(audio: Tensor) -> Tensor:
    """Return the level of audio [B, 1, N] in each frame, float32 [B, F].

    It is the root mean square over 20 ms around the centre of the frame in dB re full scale (1.0), at least -120.
    """
    framed = _centred(audio, LEVEL_WINDOW)[:, 0].unfold(-1, LEVEL_WINDOW, HOP)[:, : audio.shape[-1] // HOP]
    return 20 * torch.log10(framed.square().mean(-1).sqrt().clamp(min=LEVEL_FLOOR))


def _silent(level: Tensor) -> Tensor:
    """Return which frames are silent, bool [B, F], by their `level` in dBFS [B, F].

    They are those below SILENT_DB, and those where the level falls faster than RELEASE_DB_PER_S, measured over 40 ms,
    as in a release. Releases are included since they can be longer than a rest.
    """
    padded = nnf.pad(level, (SLOPE_FRAMES // 2, SLOPE_FRAMES // 2), mode="replicate")
    slope = (padded[:, SLOPE_FRAMES:] - padded[:, :-SLOPE_FRAMES]) / (SLOPE_FRAMES * FRAME_S)
    return (level < SILENT_DB) | (slope < -RELEASE_DB_PER_S)


def _onsets(audio: Tensor) -> Tensor:
    """Return the frames with an onset in audio [B, 1, N], bool [B, F]: the peaks of its spectral flux, one frame later.

    The flux is the rise of each log-mel band over 30 ms (0 for a fall), averaged over bands. Each band is compared with
    the loudest of itself and its two neighbours 30 ms before, so that vibrato gives no onset (SuperFlux; Boeck and
    Widmer, DAFx 2013). A peak is the maximum over 70 ms and more than FLUX_PEAK above the mean over 310 ms.
    """
    # Silence is prepended, so that a note at the start of the clip has a rise.
    lead = nnf.pad(_centred(audio, FLUX.window), (FLUX_LAG * HOP, 0))
    bands = FLUX(lead)[:, : FLUX_LAG + audio.shape[-1] // HOP]
    earlier = nnf.max_pool1d(bands.flatten(0, 1)[:, None], 3, 1, 1)[:, 0].view_as(bands)
    flux = (bands[:, FLUX_LAG:] - earlier[:, :-FLUX_LAG]).clamp(min=0).mean(-1)[:, None]
    largest = nnf.max_pool1d(flux, PEAK_FRAMES, 1, PEAK_FRAMES // 2)
    mean = nnf.avg_pool1d(flux, MEAN_FRAMES, 1, MEAN_FRAMES // 2)
    peak = ((flux == largest) & (flux > mean + FLUX_PEAK))[:, 0]
    return nnf.pad(peak[:, :-FLUX_DELAY], (FLUX_DELAY, 0))


def _centred(audio: Tensor, window: int) -> Tensor:
    return nnf.pad(audio, (window // 2, window // 2))

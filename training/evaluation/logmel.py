"""Log-mel spectrograms, for VGGish, the classifier, onset detection and codec losses.

B clips, N samples, F frames, M mel bands, L frames of a patch, P patches.
"""

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from data_specs.errors import UserError


def hz_to_mel(frequency_hz: np.ndarray | float) -> np.ndarray:
    """Return frequencies in Hz on the HTK mel scale (O'Shaughnessy 1987), 1127 ln(1 + f / 700), as float64."""
    return 1127.0 * np.log1p(np.asarray(frequency_hz, np.float64) / 700.0)


@dataclass(frozen=True)
class LogMel:
    """Log-mel spectrogram: ln(sum of the magnitudes of a mel band, weighted by its filter, + offset).

    Frame i covers `window` samples from sample i * hop. Audio is not padded, so samples after the last frame are not
    used.
    """

    sample_rate: int  # Hz
    window: int  # samples, periodic Hann
    hop: int  # samples
    fft: int  # samples; the windowed frame is zero-padded to it
    bands: int  # M
    lowest_hz: float
    highest_hz: float
    offset: float

    @cached_property
    def weights(self) -> Tensor:
        """Triangular filters, float32 [fft / 2 + 1, M]: the weight of each FFT bin in each band.

        They are evenly spaced in mel from `lowest_hz` to `highest_hz` and reach 1 at their centre. Bin 0 has weight 0.
        """
        edges = np.linspace(hz_to_mel(self.lowest_hz), hz_to_mel(self.highest_hz), self.bands + 2)
        bins = hz_to_mel(np.arange(self.fft // 2 + 1) * self.sample_rate / self.fft)[:, None]
        rising = (bins - edges[:-2]) / (edges[1:-1] - edges[:-2])
        falling = (edges[2:] - bins) / (edges[2:] - edges[1:-1])
        triangles = np.maximum(0.0, np.minimum(rising, falling))
        triangles[0] = 0.0
        return torch.from_numpy(triangles).float()

    def frames(self, samples: int) -> int:
        """Return the number F of complete frames in a clip of `samples` audio samples; 0 if there is none."""
        return max(0, 1 + (samples - self.window) // self.hop)

    def __call__(self, audio: Tensor) -> Tensor:
        """Map audio, float32 [B, 1, N] at `sample_rate` with N >= `window`, to float32 [B, F, M] on the same device."""
        window = torch.hann_window(self.window, dtype=torch.float64).to(audio.device, torch.float32)
        framed = audio[:, 0].unfold(-1, self.window, self.hop) * window
        magnitude = torch.fft.rfft(framed, n=self.fft).abs()
        return torch.log(magnitude @ self.weights.to(audio.device) + self.offset)


@dataclass(frozen=True)
class Patches:
    """Patches of a log-mel spectrogram, the inputs of a network: `length` successive frames, every `hop` frames."""

    spectrum: LogMel
    length: int  # frames L of a patch
    hop: int  # frames from one patch to the next

    def count(self, samples: int) -> int:
        """Return the number P of complete patches in a clip of `samples` audio samples; 0 if there is none."""
        return max(0, 1 + (self.spectrum.frames(samples) - self.length) // self.hop)

    def __call__(self, audio: Tensor) -> Tensor:
        """Map audio, float32 [B, 1, N] at the sample rate of `spectrum`, to patches, float32 [B, P, L, M].

        Raises:
            UserError: the clips are shorter than a patch.
        """
        if not self.count(audio.shape[-1]):
            needed = ((self.length - 1) * self.spectrum.hop + self.spectrum.window) / self.spectrum.sample_rate
            held = audio.shape[-1] / self.spectrum.sample_rate
            raise UserError(
                f"clips must last {math.ceil(needed * 100) / 100} s or more, got {held:.3g} s; raise SECONDS="
            )
        return self.spectrum(audio).unfold(1, self.length, self.hop).transpose(-1, -2)

    def centres(self, samples: int) -> np.ndarray:
        """Return the audio sample at the centre of each patch of a clip of `samples` audio samples, int64 [P]."""
        span = (self.length - 1) * self.spectrum.hop + self.spectrum.window
        return np.arange(self.count(samples), dtype=np.int64) * (self.hop * self.spectrum.hop) + span // 2

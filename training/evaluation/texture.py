"""Measures of noise within held notes; docs/metrics.md has the definitions.

B clips, N audio samples at 24 kHz, C channels, T latent frames, F feature frames (every 10 ms), I instruments.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from data_specs.arrays import Bool, Float64
from data_specs.rates import SAMPLE_RATE
from training.evaluation.adherence import Ratio
from training.evaluation.features import FRAME_S, FrameFeatures
from training.evaluation.targets import UNSPECIFIED, ControlTargets

WINDOW = 4096  # samples, Hann: 171 ms, main lobe of +-12 Hz
HARMONICS = 10
HIGHEST_HZ = 8000.0
HELD_S = 0.1  # seconds from a change of note: half the window, and the attack
EVERY = 5  # frames between measurements: 50 ms
FLOOR = 1e-12  # of power


def held_frames(targets: ControlTargets) -> Bool:
    """Return which frames are in a note and 0.1 s (HELD_S) or more from its start and its end, bool [F].

    The end of the clip does not count as the end of a note.
    """
    reach = 2 * round(HELD_S / FRAME_S) + 1
    same = targets.note.copy()
    same[1:] &= targets.note_number[1:] == targets.note_number[:-1]
    return np.asarray(np.convolve(~same, np.ones(reach), mode="same") < 0.5) & (targets.note_time >= HELD_S)


def harmonic_to_between(
    audio: Tensor, features: FrameFeatures, targets: Sequence[ControlTargets], instruments: int
) -> Float64:
    """Return the sum of the harmonic-to-between ratio in dB and the number of its frames, float64 [I, 2].

    Every fifth of the held and voiced frames with a known target instrument is measured in each clip. Frames whose
    window of 171 ms is not within the clip are left out.

    Args:
        audio: clips, float32 [B, 1, N].
        features: features of the clips.
        targets: targets of each clip.
        instruments: number of instruments I.
    """
    sums = np.zeros((instruments, 2))
    window = torch.hann_window(WINDOW, dtype=torch.float64)
    for clip, one in enumerate(targets):
        kept = np.flatnonzero(held_frames(one) & features.voiced[clip] & (one.instrument != UNSPECIFIED))[::EVERY]
        starts = np.round(kept * FRAME_S * SAMPLE_RATE).astype(int) - WINDOW // 2
        inside = (starts >= 0) & (starts + WINDOW <= audio.shape[-1])
        kept, starts = kept[inside], starts[inside]
        if not len(kept):
            continue
        frames = torch.stack([audio[clip, 0, start : start + WINDOW] for start in starts.tolist()]).double()
        power = torch.fft.rfft(frames * window).abs().square().numpy()
        pitch_hz = 440.0 * 2 ** ((features.midi[clip][kept].astype(float) - 69) / 12)
        for spectrum, hertz, instrument in zip(power, pitch_hz, one.instrument[kept], strict=True):
            sums[instrument] += _ratio_db(spectrum, hertz), 1
    return sums


def _ratio_db(spectrum: Float64, hertz: float) -> float:
    """Return the mean power at the harmonics over the mean power midway between them, in dB.

    Up to ten harmonics below 8 kHz count, and two at least. A harmonic is the largest of three bins; midway is their
    mean.

    Args:
        spectrum: power of the FFT bins of one window.
        hertz: fundamental frequency.
    """
    count = max(2, min(HARMONICS, int(HIGHEST_HZ / hertz)))
    bins = hertz * WINDOW / SAMPLE_RATE
    at = np.round(np.arange(1, count + 1) * bins).astype(int)
    between = np.round((np.arange(1, count) + 0.5) * bins).astype(int)
    near = np.arange(-1, 2)
    peak = spectrum[np.minimum(at[:, None] + near, len(spectrum) - 1)].max(1).mean()
    valley = spectrum[np.minimum(between[:, None] + near, len(spectrum) - 1)].mean()
    return float(10 * np.log10((peak + FLOOR) / (valley + FLOOR)))


def latent_steps(latents: Tensor, targets: Sequence[ControlTargets]) -> Ratio:
    """Return the sum of the steps between successive latent frames in held notes, and the number of these steps.

    A step is the root mean square over channels of the difference of two frames of latents [B, C, T]. Only steps
    between two frames in held notes count; `targets` are those of each clip.
    """
    steps = (latents[..., 1:] - latents[..., :-1]).float().square().mean(1).sqrt().cpu().numpy()
    total = count = 0.0
    for clip, one in enumerate(targets):
        held = held_frames(one)
        at = np.linspace(0, len(held) - 1, latents.shape[-1]).round().astype(int)
        both = held[at[1:]] & held[at[:-1]]
        total, count = total + float(steps[clip][both].sum()), count + float(both.sum())
    return total, count

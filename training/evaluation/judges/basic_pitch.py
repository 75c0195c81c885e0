"""Onsets by Basic Pitch (Bittner et al., ICASSP 2022), run by onnxruntime (extra `judges`).

N audio samples, W windows, n frames of 11.6 ms.
"""

from pathlib import Path
from typing import Any

import numpy as np

from data_specs.arrays import Float32, Float64
from data_specs.errors import UserError

RATE, HOP = 22_050, 256  # Hz, samples of a frame
UP, DOWN = 147, 160  # 24 kHz to 22.05 kHz
WINDOW, FRAMES = 43_844, 172  # samples and frames of a window
OVERLAP = 30  # frames that neighbouring windows share; the outer half of each is dropped
STEP = WINDOW - OVERLAP * HOP  # samples between windows
ONSET = 0.5  # smallest probability of an onset, the package's default
ONSET_OUTPUT = "StatefulPartitionedCall:2"
MERGE_S = 0.03  # onsets of several keys this close are one


class BasicPitch:
    """The network as a detector of onsets in 24 kHz audio; `session` is the onnxruntime session of the network."""

    def __init__(self, session: Any) -> None:
        self.session = session
        self.input = session.get_inputs()[0].name

    @classmethod
    def load(cls, path: Path) -> "BasicPitch":
        """Load the network from a file that `make judges` wrote; it runs on one thread of the CPU.

        Raises:
            UserError: onnxruntime is missing, the file cannot be read, or it is of another kind.
        """
        try:
            import onnxruntime
        except ImportError as error:
            raise UserError("basic-pitch needs onnxruntime; install it with pip install 'pvt-audio[judges]'") from error
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        try:
            return cls(onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"]))
        except Exception as error:  # onnxruntime's errors share no class of their own
            raise UserError(f"{path} must contain Basic Pitch ({error}); delete it, then make judges") from error

    def onsets(self, audio: Float32) -> Float64:
        """Return the times of onsets in audio [N] at 24 kHz, in seconds, sorted, float64.

        Onsets are the peaks of `onset_curve` that are ONSET or higher. A peak 30 ms (MERGE_S) or less after the peak
        before it is left out.
        """
        times, values = self.onset_curve(audio)
        inner = (values[1:-1] > values[:-2]) & (values[1:-1] >= values[2:]) & (values[1:-1] >= ONSET)
        peaks = times[1:-1][inner]
        return peaks[np.diff(peaks, prepend=-np.inf) > MERGE_S]

    def onset_curve(self, audio: Float32) -> tuple[Float64, Float32]:
        """Return the times of frames in seconds and the largest onset probability of any key in each, [n] each.

        The frames reach beyond the end of the audio, [N] at 24 kHz and not empty, to the end of the last window.
        """
        from scipy.signal import resample_poly

        wave = resample_poly(audio.astype(np.float64), UP, DOWN).astype(np.float32)
        lead, count = OVERLAP // 2 * HOP, -(-len(wave) // STEP)
        padded = np.zeros((count - 1) * STEP + WINDOW, np.float32)
        held = min(len(wave), len(padded) - lead)
        padded[lead : lead + held] = wave[:held]
        windows = np.stack([padded[number * STEP : number * STEP + WINDOW] for number in range(count)])
        (found,) = self.session.run([ONSET_OUTPUT], {self.input: windows[..., None]})  # [W, 172, 88]
        kept = np.arange(OVERLAP // 2, FRAMES - OVERLAP // 2)
        times = (np.arange(count)[:, None] * STEP - lead + kept * HOP) / RATE
        return times.ravel(), np.asarray(found, np.float32)[:, kept].max(2).ravel()

"""Control features of a clip, exact by construction: what was played, looked at once a frame.

T frames, I instruments. Frame i looks at sample i * hop; a note covers the samples onset <= s < offset.
"""

from dataclasses import dataclass

import numpy as np

VELOCITY, CHROMA, INSTRUMENTS = FEATURES = ("velocity", "chroma", "instruments")
UNCONDITIONED = -1.0  # a feature that is this value everywhere says nothing to the model
MAX_VELOCITY = 127  # divides a MIDI velocity
CHROMA_STEPS = 11  # divides a pitch class 0..11


@dataclass(frozen=True)
class Controls:
    """The features of one clip, float32."""

    velocity: np.ndarray  # [T], velocity / 127, 0 in rests
    chroma: np.ndarray  # [T], pitch class / 11, 0 in rests
    instruments: np.ndarray  # [I, T], 1 for the clip's instrument, rests included

    def arrays(self) -> dict[str, np.ndarray]:
        """The features by name."""
        return {"velocity": self.velocity, "chroma": self.chroma, "instruments": self.instruments}


def controls(notes: np.ndarray, instrument: int, instruments: int, frames: int, hop: int) -> Controls:
    """The control features of one clip.

    Args:
        notes: integers [n, 4]: onset and offset in samples, MIDI pitch, velocity; in order, one note at a time.
        instrument: index of the clip's instrument, 0 <= instrument < instruments.
        instruments: number of instruments I.
        frames: number of frames T.
        hop: samples between frames.

    Raises:
        ValueError: notes overlap or are not in order, or there is no such instrument.
    """
    onset, offset, pitch, velocity = np.asarray(notes).reshape(-1, 4).T
    if np.any(onset >= offset) or np.any(offset[:-1] > onset[1:]):
        raise ValueError("notes must be in order, each of some length, and must not overlap")
    if not 0 <= instrument < instruments:
        raise ValueError(f"instrument {instrument} is not one of {instruments}")
    samples = np.arange(frames, dtype=np.int64) * hop
    # The note that started last, -1 before the first; it sounds until its own offset, then there is a rest.
    latest = np.searchsorted(onset, samples, side="right") - 1
    sounding = latest >= 0
    sounding[sounding] = samples[sounding] < offset[latest[sounding]]
    playing = latest[sounding]
    features = np.zeros((2, frames), np.float32)
    features[0, sounding] = velocity[playing] / MAX_VELOCITY
    features[1, sounding] = pitch[playing] % 12 / CHROMA_STEPS
    one_hot = np.zeros((instruments, frames), np.float32)
    one_hot[instrument] = 1.0
    return Controls(features[0], features[1], one_hot)

"""Control features measured from the audio of one clip. N samples at 24 kHz, T frames."""

from collections.abc import Sequence

import numpy as np
import torch

from data_specs.analysis.descriptors import AudioAnalysis
from data_specs.arrays import Float32
from data_specs.controls import CONTROLS


def measured_controls(audio: Float32, names: Sequence[str], frames: int, hop: int) -> dict[str, Float32]:
    """Return the features `names` measured from one clip, float32 [N] at 24 kHz: by name, float32 [T], as stored.

    Frame i is centred on sample i * hop. Each of `names` must be a control with a descriptor.
    """
    analysis = AudioAnalysis(torch.from_numpy(np.ascontiguousarray(audio, np.float32)), hop, frames)
    found = {}
    for name in names:
        control = CONTROLS[name]
        values = getattr(analysis, control.descriptor)[0].numpy()
        # promise: measured-control-units
        found[name] = np.asarray(control.from_descriptor(values), np.float32)
    return found

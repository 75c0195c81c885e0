"""PVT-audio: the waveform itself."""

import torch
from torch import Tensor

from data_specs.representations.base import Representation


class Audio(Representation):
    """Stored array float32 [1, N]: the N samples. Frames of the controls have hop 320, as those of encodec and disc."""

    name = label = "audio"
    hop = 320

    def frames(self, samples: int) -> int:
        return samples // self.hop

    def shape(self, samples: int) -> tuple[int, ...]:
        return (1, samples)

    def encode(self, audio: Tensor) -> Tensor:
        return audio.detach().float()

    def decode(self, stored: Tensor, gradient: bool = False) -> Tensor:
        with torch.set_grad_enabled(gradient):
            return stored.float()

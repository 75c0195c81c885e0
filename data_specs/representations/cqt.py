"""PVT-cqt: real and imaginary part of a constant-Q transform, 36 bins an octave from C3 (130.81 Hz) over six octaves.

B batch, N samples, T = N / 100 + 1 frames. Frame t is centred on sample 100 t of the clip, reflected at its ends.
"""

import torch
from torch import Tensor

from data_specs.representations.base import Representation
from data_specs.representations.cqt_kernels import BINS, HOP, kernels, transform
from data_specs.representations.least_squares import conjugate_gradients

DECODE_STEPS = 5  # 35 dB on noise of 150 to 8000 Hz, above 55 dB on rendered clips
DECODED_AT_ONCE = 8  # clips; bounds the memory


class Cqt(Representation):
    """Stored array float32 [2, 216, T]: real and imaginary part, bins from low to high, frames."""

    name = label = "cqt"
    hop = HOP
    centred = False  # phases rotate, so the mean is meaningless; real and imaginary part share one scale

    @property
    def digest(self) -> str:
        return kernels().digest

    def frames(self, samples: int) -> int:
        return samples // HOP + 1

    def samples(self, frames: int) -> int:
        return (frames - 1) * HOP

    def shape(self, samples: int) -> tuple[int, ...]:
        return (2, BINS, self.frames(samples))

    def pooled_axes(self) -> tuple[int, ...]:
        # promise: model-target-spread-floor-3
        return (0, 2)

    @torch.no_grad()
    def encode(self, audio: Tensor) -> Tensor:
        cqt = transform(audio.shape[-1], audio.device)
        # Clip by clip: a batch is no faster, and the bits of a clip must not depend on the batch.
        # promise: chunks-constant-size-thread-4
        bins = torch.cat([cqt.forward(clip) for clip in audio[:, 0].float().split(1)])
        return torch.view_as_real(bins).permute(0, 3, 1, 2).contiguous()

    def decode(self, stored: Tensor, gradient: bool = False) -> Tensor:
        """Return audio [B, 1, N] whose transform is near `stored` (least squares, five conjugate gradient steps).

        The bins cover 130 to 8200 Hz; content outside is not restored.
        """
        with torch.set_grad_enabled(gradient):
            return torch.cat([self._nearest(part) for part in stored.split(DECODED_AT_ONCE)])

    def _nearest(self, stored: Tensor) -> Tensor:
        cqt = transform(self.samples(stored.shape[-1]), stored.device)
        bins = torch.view_as_complex(stored.float().permute(0, 2, 3, 1).contiguous())
        audio = conjugate_gradients(
            lambda x: cqt.adjoint(cqt.forward(x)), cqt.adjoint(bins), cqt.approximate_inverse, DECODE_STEPS
        )
        return audio[:, None]
